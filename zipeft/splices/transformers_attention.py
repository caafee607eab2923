"""The splice for every attention of ``transformers`` that goes through its attention interface."""

from __future__ import annotations

import abc
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer, AttentionSplice, Splice
from zipeft.splices.rotary import first_token

PREFIX = "zipeft_"
PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"))
KEY_NORMS = ("k_norm", "k_layernorm", "key_layernorm", "qk_norm")
VALUE_NORMS = ("v_norm",)
# fmt: off
OTHER_PARTS = (  # of the queries, which arrive finished, and of the result
    "q_norm", "q_layernorm", "query_layernorm", "rotary_emb", "dropout", "attention_dropout",
    "o_proj", "out_proj", "dense", "Wo", "proj", "output", "projection_layer", "gate_proj", "g_proj",
    "o_norm", "attn_sub_norm", "LayerNorm", "out_drop", "output_dropout", "projection_dropout",
)
# fmt: on
KNOWN_PARTS = {*chain(*PROJECTIONS), *KEY_NORMS, *VALUE_NORMS, *OTHER_PARTS}


class InterfaceSplice(AttentionSplice):
    """Reaches attention of ``transformers`` between the rotary embedding and the output projection.

    A function registered as ``zipeft_<kernel>`` takes the place of the model's kernel (sdpa, eager, flash) and hands
    queries, keys and values to ``attend``.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return _dispatches(module) and not _objection(module)

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        return _objection(module) if _dispatches(module) else ""

    def install(self) -> None:
        self.attention.config = _JoinedConfig(self.attention.config)
        # To ask for the name registers the kernel: within a compiled graph it would compile twice.
        _ = self.attention.config._attn_implementation

    def remove(self) -> None:
        self.attention.config = self.attention.config.config

    @abc.abstractmethod
    def attend(
        self, kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the layer's result (batch, queries, heads, head dim) and its attention weights, if the kernel has any.

        Args:
            kernel: the name of the model's own kernel.
            query: (batch, heads, queries, head dim).
            key, value: (batch, key-value heads, keys, head dim).
            mask: what the kernel takes, or None.
            options: of the kernel.
        """

    def run(self, kernel: str, *inputs: Tensor | None, **options: Any) -> tuple[Tensor, Tensor | None]:
        """Call the model's own kernel."""
        return _kernel(self.attention, kernel)(self.attention, *inputs, **options)


class TransformersSplice(InterfaceSplice, Splice):
    """Joins LLaMA, Mistral, Qwen, Gemma, RoBERTa, BERT, ViT, CLIP and others that dispatch through the interface."""

    @classmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        query, *_ = _projections(attention)
        groups = getattr(attention, "num_key_value_groups", 1)  # some query projections hold an output gate too
        return query.in_features, key_value_heads(attention)[0] * groups

    def install(self) -> None:
        super().install()
        self.first_token = first_token(self.attention, self._keys_at)

    def attend(
        self, kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        output, weights = self.run(kernel, query, key, value, mask, **options)
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return output + self.term(query, scale).transpose(1, 2), weights

    def frozen(self) -> Sequence[Tensor] | None:
        _, *projections = _projections(self.attention)
        return super().frozen() if all(type(layer) is nn.Linear for layer in projections) else None

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        _, key, value = _projections(self.attention)
        return (
            self.first_token.scaled(_split_heads(self.attention, key(prompt), KEY_NORMS)),
            _split_heads(self.attention, value(prompt), VALUE_NORMS),
        )

    @torch.no_grad()
    def _keys_at(self, cosine: Tensor, sine: Tensor) -> Tensor:
        """Return the keys that the layer makes of a token of ones at given cosines and sines."""
        parameters = (p for p in self.attention.parameters() if p.dim() > 1 and p.is_floating_point())
        seen, like = [], next(parameters, torch.empty(0, device=next(self.attention.parameters()).device))
        query_projection, *_ = _projections(self.attention)

        def keep(_kernel: str, query: Tensor, key: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
            seen.append(key)
            return query.transpose(1, 2), None

        vars(self)["attend"] = keep  # hides the method while the layer runs once
        try:
            self.attention.forward(
                like.new_ones(1, 1, query_projection.in_features),
                position_embeddings=(cosine.to(like), sine.to(like)),
                attention_mask=None,
                position_ids=torch.zeros(1, 1, dtype=torch.long, device=like.device),
            )
        finally:
            del vars(self)["attend"]
        return seen[0]


def key_value_heads(attention: AttentionLayer) -> tuple[int, int]:
    """Return the number and the width of the heads of a layer's keys and values."""
    _, key, _ = _projections(attention)
    return key.out_features // _head_dim(attention), _head_dim(attention)


class _JoinedConfig:
    """What one joined layer sees of the model's config: all of it, with the kernel's spliced form in its place.

    The config itself stays as it is, for other models and layers may share it, masks are made by it, and the model's
    kernel may be changed in it at any time.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def __getattr__(self, name: str) -> object:
        if name == "config":  # not there yet, while a copy is made
            raise AttributeError(name)
        return getattr(self.config, name)

    @property
    def _attn_implementation(self) -> str:
        return _register(self.config._attn_implementation or "eager")


def _register(kernel: str) -> str:
    """Register the spliced form of a kernel and return its name."""
    from transformers import AttentionInterface

    if PREFIX + kernel in AttentionInterface._global_mapping:
        return PREFIX + kernel

    def spliced(module: AttentionLayer, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        splice = getattr(module, "zipeft_splice", None)
        if splice is None:
            return _kernel(module, kernel)(module, *inputs, **options)
        return splice.attend(kernel, *inputs, **options)

    AttentionInterface.register(PREFIX + kernel, spliced)
    return PREFIX + kernel


def _kernel(module: AttentionLayer, name: str) -> Callable[..., Any]:
    code = sys.modules[type(module).__module__]
    return code.eager_attention_forward if name == "eager" else code.ALL_ATTENTION_FUNCTIONS[name]


def _projections(module: AttentionLayer) -> Sequence[Any]:
    """Return the projections of queries, keys and values; nothing where they are not three linear layers."""
    for names in PROJECTIONS:
        found = [getattr(module, name, None) for name in names]
        if all(hasattr(layer, "in_features") for layer in found):
            return found
    return ()


def _dispatches(module: AttentionLayer) -> bool:
    """Whether a module may go through the interface: that its code does so for attention does not make it one."""
    code = sys.modules.get(type(module).__module__)
    return hasattr(code, "ALL_ATTENTION_FUNCTIONS") and hasattr(getattr(module, "config", None), "_attn_implementation")


def _objection(module: AttentionLayer) -> str:
    """Say what but the projections and norms that we know makes keys and values: better none than wrong ones."""
    if getattr(module.config, "attn_logit_softcapping", None) is not None:
        return "it caps its scores"
    if getattr(module.config, "clip_qkv", None) is not None:
        return "it clips its keys"
    if not _projections(module) or _head_dim(module) is None:
        return "its projections are not three linear layers q_proj, k_proj, v_proj, or query, key, value"
    if unknown := sorted({name for name, _ in module.named_children()} - KNOWN_PARTS):
        return f"what its {' and '.join(unknown)} would do to a prompt is not known"
    query, key, value = _projections(module)
    if query.in_features != key.in_features or key.in_features != value.in_features:
        return "its keys come from another width than its queries"
    if key.out_features != value.out_features:
        return "its values have another width than its keys"
    norms = (getattr(module, name, None) for name in KEY_NORMS + VALUE_NORMS)
    each = any(isinstance(norm, nn.Module) and list(norm.children()) for norm in norms)
    return "it has a norm of its own for each head" if each else ""


def _head_dim(attention: AttentionLayer) -> Any:
    """Return the width of a head; None where the layer does not say."""
    return getattr(attention, "head_dim", getattr(attention, "attention_head_size", None))


def _split_heads(attention: AttentionLayer, x: Tensor, norms: tuple[str, ...]) -> Tensor:
    """(..., length, heads * head dim) to (..., heads, length, head dim), through the layer's norm where it has one.

    Some models normalise each head (Qwen3, Gemma 3), some all heads at once (OLMo 2); the norm's size tells.
    """
    head_dim = _head_dim(attention)
    norm = next(filter(None, (getattr(attention, name, None) for name in norms)), nn.Identity())
    if _norm_size(norm) in (None, head_dim):
        return norm(x.unflatten(-1, (-1, head_dim))).transpose(-2, -3)
    return norm(x).unflatten(-1, (-1, head_dim)).transpose(-2, -3)


def _norm_size(norm: nn.Module) -> int | None:
    weight = getattr(norm, "weight", None)
    return None if weight is None else weight.shape[-1]
