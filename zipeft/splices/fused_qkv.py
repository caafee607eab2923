"""Keys and values of prompts by a projection that makes queries, keys and values in one product."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def key_and_value(weight: Tensor, bias: Tensor | None, prompt: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Return keys and values, each (..., heads, length, head dim), without computing queries.

    Args:
        weight: (3 * width, width): the rows of queries, then of keys, then of values.
        bias: (3 * width), or None.
        prompt: (..., length, width).
        heads: number of heads; keys have as many as queries.
    """
    _, *weights = weight.chunk(3)
    _, *biases = (None, None, None) if bias is None else bias.chunk(3)
    key, value = (functional.linear(prompt, w, b) for w, b in zip(weights, biases, strict=True))
    return split_heads(key, heads), split_heads(value, heads)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(..., length, width) to (..., heads, length, head dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)
