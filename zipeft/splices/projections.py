"""How attention layers make queries, keys and values of what they take: by three projections, or by one for all.

Queries, keys and values are here (..., tokens, heads, head dim).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from zipeft.api.splice import AttentionLayer

QUERY_NORMS = ("q_norm", "q_layernorm")
KEY_NORMS = ("k_norm", "k_layernorm", "key_layernorm", "qk_norm")
VALUE_NORMS = ("v_norm",)

Parts: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""

Layout: TypeAlias = Callable[[AttentionLayer, Tensor], Parts]
"""From the output (..., tokens, width) of a layer's fused projection to its parts."""


@dataclass(frozen=True)
class Separate:
    """A projection each. What they return holds the numbers of each head together; keys may have fewer heads."""

    query: str
    key: str
    value: str

    @property
    def source(self) -> str:
        """The name of the projection whose output holds the queries."""
        return self.query

    def read(self, layer: AttentionLayer) -> list[nn.Module]:
        """Return the modules that make keys and values."""
        return [getattr(layer, self.key), getattr(layer, self.value)]

    def width(self, layer: AttentionLayer) -> int:
        """Return the width of what the layer takes."""
        return in_features(getattr(layer, self.query))

    def queries(self, layer: AttentionLayer, output: Tensor) -> Tensor:
        """Return the queries of the output of ``source``."""
        return output.unflatten(-1, (heads(layer), -1))

    def keys_and_values(self, layer: AttentionLayer, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of prompts (..., length, width)."""
        dim = head_dim(layer) or getattr(layer, self.query).out_features // heads(layer)
        key, value = (projected(projection, prompt).unflatten(-1, (-1, dim)) for projection in self.read(layer))
        return key, value


@dataclass(frozen=True)
class Fused:
    """One projection for all three, and how its output is laid out.

    ``biases`` names what the layer adds to queries, keys and values, where it keeps biases apart from the projection.
    """

    source: str
    layout: Layout
    biases: tuple[str | None, str | None, str | None] = (None, None, None)

    def read(self, layer: AttentionLayer) -> list[nn.Module]:
        return [getattr(layer, self.source)]

    def width(self, layer: AttentionLayer) -> int:
        return in_features(getattr(layer, self.source))

    def queries(self, layer: AttentionLayer, output: Tensor) -> Tensor:
        query, _, _ = self._parts(layer, output)
        return query

    def keys_and_values(self, layer: AttentionLayer, prompt: Tensor) -> tuple[Tensor, Tensor]:
        _, key, value = self._parts(layer, projected(getattr(layer, self.source), prompt))
        return key, value

    def _parts(self, layer: AttentionLayer, output: Tensor) -> list[Tensor]:
        biases = [None if name is None else getattr(layer, name, None) for name in self.biases]
        parts = zip(self.layout(layer, output), biases, strict=True)
        return [part if bias is None else part + bias.unflatten(0, part.shape[-2:]) for part, bias in parts]


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values from one narrow vector a token.

    One part of each key, the same for all heads, does not come from that vector: the part that is rotated.
    ``evens_first`` says whether the rotation leaves its even numbers before its odd ones.
    """

    evens_first: Callable[[AttentionLayer], bool]

    def read(self, layer: AttentionLayer) -> list[nn.Module]:
        return [layer.kv_a_proj_with_mqa, layer.kv_b_proj]

    def width(self, layer: AttentionLayer) -> int:
        return in_features(layer.kv_a_proj_with_mqa)

    def keys_and_values(self, layer: AttentionLayer, prompt: Tensor) -> tuple[Tensor, Tensor]:
        sizes = layer.kv_lora_rank, layer.qk_rope_head_dim
        latent, rotated = layer.kv_a_proj_with_mqa(prompt).split(sizes, -1)
        latent = layer.kv_a_layernorm(latent) * getattr(layer, "mla_scale_kv_lora", 1.0)
        both = layer.kv_b_proj(latent).unflatten(-1, (heads(layer), -1))
        key, value = both.split((layer.qk_nope_head_dim, layer.v_head_dim), -1)
        if self.evens_first(layer):
            rotated = torch.cat([rotated[..., ::2], rotated[..., 1::2]], -1)
        return torch.cat([key, rotated.unsqueeze(-2).expand(*key.shape[:-1], -1)], -1), value


# --- layouts of fused projections ---


def thirds(layer: AttentionLayer, x: Tensor) -> Parts:
    """All queries, then all keys, then all values."""
    query, key, value = x.unflatten(-1, (3, heads(layer), -1)).unbind(-3)
    return query, key, value


def uneven_thirds(layer: AttentionLayer, x: Tensor) -> Parts:
    """All queries, then all keys, then all values, where keys and values have fewer heads."""
    x = x.unflatten(-1, (-1, head_dim(layer)))
    shared = (x.shape[-2] - heads(layer)) // 2
    query, key, value = x.split((heads(layer), shared, shared), -2)
    return query, key, value


def bounded(layer: AttentionLayer, x: Tensor) -> Tensor:
    """Return what MPT and DBRX make of their fused projection's output, where a setting bounds it."""
    return x if layer.clip_qkv is None else x.clamp(-layer.clip_qkv, layer.clip_qkv)


def by_head(layer: AttentionLayer, x: Tensor) -> Parts:
    """The query, the key and the value of the first head, then of the next."""
    query, key, value = x.unflatten(-1, (heads(layer), 3, -1)).unbind(-2)
    return query, key, value


def by_uneven_head(layer: AttentionLayer, x: Tensor) -> Parts:
    """The same, where values have another width than keys."""
    sizes = layer.key_dim, layer.key_dim, layer.val_dim
    query, key, value = x.unflatten(-1, (heads(layer), -1)).split(sizes, -1)
    return query, key, value


def by_group(layer: AttentionLayer, x: Tensor) -> Parts:
    """The queries, the key and the value of the first group of heads, which share these, then of the next."""
    x = x.unflatten(-1, (layer.num_kv_heads, -1, head_dim(layer)))
    return x[..., :-2, :].flatten(-3, -2), x[..., -2, :], x[..., -1, :]


def shards(layer: AttentionLayer, x: Tensor) -> Parts:
    """The queries, the values and the keys of the first shard of heads, then of the next (CodeGen)."""
    query, value, key = (
        part.flatten(-2).unflatten(-1, (heads(layer), -1)) for part in x.unflatten(-1, (layer.mp_num, 3, -1)).unbind(-2)
    )
    return query, key, value


# --- what layers call their parts ---


def heads(layer: AttentionLayer) -> int:
    """Return the number of query heads."""
    names = ("num_heads", "num_attention_heads", "n_heads", "n_head")
    own = (getattr(layer, name, None) for name in names)
    found = next((count for count in own if count), None)
    return layer.config.num_attention_heads if found is None else found


def head_dim(layer: AttentionLayer) -> int | None:
    """Return the width of a head; None where the layer does not say."""
    names = ("head_dim", "attention_head_size", "key_value_proj_dim", "dim_head")
    own = (getattr(layer, name, None) for name in names)
    return next((dim for dim in own if dim), None)


def in_features(projection: nn.Module) -> int:
    """Return the width of what a linear layer takes, a convolution over one token, or GPT-2's ``Conv1D``."""
    names = ("in_features", "in_channels", "nx")
    return next(getattr(projection, name) for name in names if hasattr(projection, name))


def projected(projection: nn.Module, tokens: Tensor) -> Tensor:
    """Put tokens (..., tokens, width) through a linear layer, or through a convolution over one token."""
    if not isinstance(projection, (nn.Conv1d, nn.Conv2d)):
        return projection(tokens)
    channels = tokens.transpose(-1, -2)
    if isinstance(projection, nn.Conv2d):
        return projection(channels.unsqueeze(-1)).squeeze(-1).transpose(-1, -2)
    return projection(channels).transpose(-1, -2)


def plain(projection: nn.Module) -> bool:
    """Whether tensors alone decide what a projection gives: not where peft or bitsandbytes has wrapped it."""
    known = (nn.Linear, nn.Conv1d, nn.Conv2d)
    return type(projection) in known or type(projection).__module__.startswith("transformers.")


def normed(layer: AttentionLayer, x: Tensor, names: Sequence[str]) -> Tensor:
    """Put (..., tokens, heads, head dim) through the first norm of these names that the layer has.

    Some models normalise each head (Qwen3, Gemma 3), some all heads at once (OLMo 2); the norm's size tells. StableLM
    has a norm for each head.
    """
    norm = next(filter(None, (getattr(layer, name, None) for name in names)), nn.Identity())
    if isinstance(each := getattr(norm, "norms", None), nn.ModuleList):
        return torch.stack([own(head) for own, head in zip(each, x.unbind(-2), strict=True)], -2)
    weight = getattr(norm, "weight", None)
    if weight is None or weight.shape[-1] == x.shape[-1]:
        return norm(x)
    return norm(x.flatten(-2)).unflatten(-1, x.shape[-2:])
