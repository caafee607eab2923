"""The splice for every attention of ``transformers`` that goes through its attention interface."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer, Splice
from zipeft.splices.attention_interface import InterfaceSplice, dispatches
from zipeft.splices.named_classes import named
from zipeft.splices.projections import (
    KEY_NORMS,
    QUERY_NORMS,
    VALUE_NORMS,
    Fused,
    Latent,
    Separate,
    bounded,
    by_head,
    head_dim,
    heads,
    normed,
    plain,
    shards,
    thirds,
    uneven_thirds,
)
from zipeft.splices.rotary import first_token

Projections: TypeAlias = "Separate | Fused | Latent"

SEPARATE = (
    Separate("q_proj", "k_proj", "v_proj"),
    Separate("query", "key", "value"),
    Separate("q_lin", "k_lin", "v_lin"),
    Separate("q", "k", "v"),
)
OTHERS: dict[str, Projections] = {
    "transformers.codegen.CodeGenAttention": Fused("qkv_proj", shards),
    "transformers.dbrx.DbrxAttention": Fused("Wqkv", lambda layer, x: uneven_thirds(layer, bounded(layer, x))),
    "transformers.deepseek_v2.DeepseekV2Attention": Latent(lambda layer: False),
    "transformers.deepseek_v3.DeepseekV3Attention": Latent(lambda layer: layer.config.rope_interleave),
    "transformers.gpt2.GPT2Attention": Fused("c_attn", thirds),
    "transformers.gpt_bigcode.GPTBigCodeAttention": Fused(
        "c_attn", lambda layer, x: (uneven_thirds if layer.multi_query else by_head)(layer, x)
    ),
    "transformers.gpt_neox.GPTNeoXAttention": Fused("query_key_value", by_head),
    "transformers.longcat_flash.LongcatFlashMLA": Latent(lambda layer: True),
    "transformers.minicpm3.MiniCPM3Attention": Latent(lambda layer: False),
    "transformers.modernbert.ModernBertAttention": Fused("Wqkv", thirds),
    "transformers.persimmon.PersimmonAttention": Fused("query_key_value", by_head),
    "transformers.phi3.Phi3Attention": Fused("qkv_proj", uneven_thirds),
}
"""How layers of these classes make keys and values; they were read for it."""

# fmt: off
OTHER_PARTS = (  # of the queries, which arrive finished, of the scores, and of the result
    "rotary_emb", "dropout", "attention_dropout", "relative_attention_bias", "relative_position_bias",
    "query_layernorm", "o_proj", "out_proj", "out_lin", "o", "dense", "Wo", "proj", "output", "projection_layer",
    "gate_proj", "g_proj", "o_norm", "attn_sub_norm", "LayerNorm", "out_drop", "output_dropout", "resid_dropout",
    "projection_dropout",
)
# fmt: on
NAMES = chain.from_iterable((each.query, each.key, each.value) for each in SEPARATE)
KNOWN_PARTS = {*NAMES, *QUERY_NORMS, *KEY_NORMS, *VALUE_NORMS, *OTHER_PARTS}


class TransformersSplice(InterfaceSplice, Splice):
    """Joins LLaMA, Mistral, Qwen, Gemma, GPT-2, T5, BERT, ViT, CLIP and others that dispatch through the interface."""

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return dispatches(module) and not objection(module)

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        return objection(module) if dispatches(module) else ""

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        projections = _projections(attention)
        if not isinstance(projections, Separate):
            return projections.width(attention), heads(attention)
        groups = getattr(attention, "num_key_value_groups", 1)  # some query projections hold an output gate too
        return projections.width(attention), key_value_heads(attention)[0] * groups

    def install(self) -> None:
        super().install()
        self.first_token = first_token(self.attention, self._keys_at)

    def attend(
        self, kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        output, weights = self.run(kernel, query, key, value, mask, **options)
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return output + self.term(query, scale, options.get("softcap")).transpose(1, 2), weights

    def frozen(self) -> Sequence[Tensor] | None:
        read = _projections(self.attention).read(self.attention)
        return super().frozen() if all(map(plain, read)) else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        key, value = _projections(self.attention).keys_and_values(self.attention, prompt)
        key, value = normed(self.attention, key, KEY_NORMS), normed(self.attention, value, VALUE_NORMS)
        if (limit := getattr(self.attention.config, "clip_qkv", None)) is not None:  # OLMo
            key, value = key.clamp(-limit, limit), value.clamp(-limit, limit)
        return self.first_token.scaled(key).transpose(-2, -3), value.transpose(-2, -3)

    @torch.no_grad()
    def _keys_at(self, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the keys that the layer makes of a token of ones at given cosines and sines."""
        parameters = (p for p in self.attention.parameters() if p.dim() > 1 and p.is_floating_point())
        seen, like = [], next(parameters, torch.empty(0, device=next(self.attention.parameters()).device))

        def keep(_kernel: str, query: Tensor, key: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
            seen.append(key)
            return query.transpose(1, 2), None

        vars(self)["attend"] = keep  # hides the method while the layer runs once
        try:
            self.attention.forward(
                like.new_ones(1, 1, self.width_and_heads(self.attention)[0]),
                position_embeddings=(cosine.to(like), sine.to(like)),
                attention_mask=None,
                position_ids=torch.zeros(1, 1, dtype=torch.long, device=like.device),
            )
        finally:
            del vars(self)["attend"]
        return seen[0]


def objection(module: nn.Module) -> str:
    """Say what but the projections and norms that we know makes keys and values: better none than wrong ones."""
    if named(module) in OTHERS:
        return _objection_to_other(module)
    config = module.config
    if getattr(config, "attn_logit_softcapping", None) is not None and not _takes_softcap(module):
        return "it caps its scores by itself"
    if (projections := separate(module)) is None:
        return "its projections are not three linear layers q_proj, k_proj, v_proj, or query, key, value"
    if unknown := sorted({name for name, _ in module.named_children()} - KNOWN_PARTS):
        return f"what its {' and '.join(unknown)} would do to a prompt is not known"
    query, key, value = (getattr(module, name) for name in (projections.query, projections.key, projections.value))
    if query.in_features != key.in_features or key.in_features != value.in_features:
        return "its keys come from another width than its queries"
    if key.out_features != value.out_features:
        return "its values have another width than its keys"
    norms = (getattr(module, name, None) for name in KEY_NORMS + VALUE_NORMS)
    odd = any(isinstance(norm, nn.Module) and {*dict(norm.named_children())} - {"norms"} for norm in norms)
    return "it has a norm of parts that are not known" if odd else ""


def _objection_to_other(module: nn.Module) -> str:
    if getattr(module, "reorder_and_upcast_attn", False):  # GPT-2: a kernel of its own, where it is set to eager
        return "its reorder_and_upcast_attn passes by the attention interface"
    return "its keys come from another fused projection" if getattr(module, "is_cross_attention", False) else ""


def _takes_softcap(module: nn.Module) -> bool:
    """Whether the explicit kernel of a module's code takes the bound of the scores, as an option that we see."""
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return eager is not None and "softcap" in inspect.signature(eager).parameters


def separate(module: nn.Module) -> Separate | None:
    """Return the names of a module's three linear projections; None where it has none such, of a known head width."""
    for each in SEPARATE:
        found = (getattr(module, name, None) for name in (each.query, each.key, each.value))
        if all(hasattr(layer, "in_features") for layer in found):
            return each if _head_dim(module, each) else None
    return None


def key_value_heads(attention: AttentionLayer) -> tuple[int, int]:
    """Return the number and the width of the heads of a layer's keys and values."""
    projections = separate(attention)
    assert projections is not None
    dim = _head_dim(attention, projections)
    assert dim is not None
    return getattr(attention, projections.key).out_features // dim, dim


def _head_dim(attention: AttentionLayer, projections: Separate) -> int | None:
    """Return the width of a head, which SAM's layers do not name."""
    count = getattr(attention, "num_attention_heads", None)
    return head_dim(attention) or (count and getattr(attention, projections.query).out_features // count)


def _projections(attention: AttentionLayer) -> Any:
    return OTHERS.get(named(attention)) or separate(attention)
