"""The splice for every attention of ``transformers`` that goes through its attention interface."""

from __future__ import annotations

import sys
from collections.abc import Callable

from torch import Tensor, nn

from zipeft.splices.base import Splice

PREFIX = "zipeft_"
PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"))
KEY_NORMS = ("k_norm", "k_layernorm")
VALUE_NORMS = ("v_norm",)


class TransformersSplice(Splice):
    """Joins LLaMA, Mistral, Qwen, Gemma, RoBERTa, BERT, ViT, CLIP and whatever else dispatches through the interface.

    A function registered as ``zipeft_<kernel>`` calls the model's kernel (sdpa, eager, flash) as it is and adds the
    term. It receives the queries after the rotary embedding, and its result goes to the output projection.
    """

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        code = sys.modules.get(type(module).__module__)
        return (
            hasattr(code, "ALL_ATTENTION_FUNCTIONS")
            and hasattr(getattr(module, "config", None), "_attn_implementation")
            and _projections(module) is not None
            and _head_dim(module) is not None
            and getattr(module.config, "attn_logit_softcapping", None) is None
        )

    @classmethod
    def width_and_heads(cls, attention: nn.Module) -> tuple[int, int]:
        query, _, _ = _projections(attention)
        return query.in_features, query.out_features // _head_dim(attention)

    def install(self) -> None:
        config = self.attention.config
        if not config._attn_implementation.startswith(PREFIX):
            config._attn_implementation = _register(config._attn_implementation)

    def remove(self) -> None:
        config = self.attention.config
        config._attn_implementation = config._attn_implementation.removeprefix(PREFIX)

    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        _, key, value = _projections(self.attention)
        return (
            _split_heads(self.attention, key(prompt), KEY_NORMS),
            _split_heads(self.attention, value(prompt), VALUE_NORMS),
        )


def _register(kernel: str) -> str:
    """Register the spliced form of a kernel, with the kernel's own masks, and return its name."""
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    def spliced(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options):
        output, weights = _kernel(module, kernel)(module, query, key, value, mask, **options)
        splice = getattr(module, "zipeft_splice", None)
        if splice is None:
            return output, weights
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        return output + splice.term(query, scale).transpose(1, 2), weights

    AttentionInterface.register(PREFIX + kernel, spliced)
    if kernel in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(PREFIX + kernel, ALL_MASK_ATTENTION_FUNCTIONS[kernel])
    return PREFIX + kernel


def _kernel(module: nn.Module, name: str) -> Callable:
    code = sys.modules[type(module).__module__]
    return code.eager_attention_forward if name == "eager" else code.ALL_ATTENTION_FUNCTIONS[name]


def _projections(module: nn.Module) -> tuple[nn.Module, ...] | None:
    for names in PROJECTIONS:
        found = tuple(getattr(module, name, None) for name in names)
        if all(hasattr(layer, "in_features") for layer in found):
            return found
    return None


def _head_dim(attention: nn.Module) -> int | None:
    return getattr(attention, "head_dim", getattr(attention, "attention_head_size", None))


def _split_heads(attention: nn.Module, x: Tensor, norms: tuple[str, ...]) -> Tensor:
    """(..., length, heads * head dim) to (..., heads, length, head dim), through the layer's norm where it has one.

    Some models normalise each head (Qwen3, Gemma 3), some all heads at once (OLMo 2); the norm's size tells.
    """
    norm = next((layer for name in norms if (layer := getattr(attention, name, None)) is not None), None)
    head_dim = _head_dim(attention)
    each_head = norm is not None and _norm_size(norm) in (None, head_dim)
    if norm is not None and not each_head:
        x = norm(x)
    x = x.unflatten(-1, (-1, head_dim))
    return (norm(x) if each_head else x).transpose(-2, -3)


def _norm_size(norm: nn.Module) -> int | None:
    weight = getattr(norm, "weight", None)
    return None if weight is None else weight.shape[-1]
