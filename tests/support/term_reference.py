"""An independent float64 reference of the prompt's term alone, for layers whose words' part has much of its own.

By equation 7 of LLaMA-Adapter (arXiv 2303.16199) the prompt adds to a layer's result, for each head,

    W_o gate * softmax(s * q K_P) V_P

whatever biases, masks and windows the words' softmax has. The weights are cut out of fused projections row by row, by
where each head's numbers lie, and nothing of the package under test is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Linear = tuple[Tensor, "Tensor | None"]


def identity(x: Tensor, *_: object) -> Tensor:
    return x


@dataclass(frozen=True)
class Term:
    """One layer in float64: its weights, with the rows of each head together, and how it scores.

    Norms and ``turn`` take (batch, tokens, heads, head dim); ``turn`` also what the layer was called with.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear | None
    heads: int
    scale: float | None = None
    shared: int = 1
    cap: float | None = None
    before: Callable[[Tensor], Tensor] = identity
    query_norm: Callable[[Tensor], Tensor] = identity
    key_norm: Callable[[Tensor], Tensor] = identity
    turn: Callable[[Tensor, dict], Tensor] = identity
    clip: float = math.inf
    heads_last: bool = False

    def __call__(self, hidden: Tensor, prompt: Tensor, gate: Tensor, call: dict) -> Tensor:
        """Return what the prompt (length, width) adds to the layer's output for its input (batch, ..., width)."""
        tokens = self.before(hidden.double()).flatten(1, -2)
        query = self.turn(self.query_norm(self._heads(tokens, self.query, self.heads)), call)
        kv_heads = self.heads // self.shared
        key = self.key_norm(self._heads(prompt.double()[None], self.key, kv_heads))[0]
        value = self._heads(prompt.double()[None], self.value, kv_heads)[0]
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        out = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=torch.float64)
        for head in range(self.heads):
            scores = scale * query[:, :, head] @ key[:, head // self.shared].T
            if self.cap is not None:
                scores = self.cap * (scores / self.cap).tanh()
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            out[:, :, head] = gate[head] * (weights @ value[:, head // self.shared])
        out = (out.transpose(2, 3) if self.heads_last else out).flatten(2)
        return out if self.output is None else out @ self.output[0].T

    def _heads(self, x: Tensor, projection: Linear, heads: int) -> Tensor:
        weight, bias = projection
        x = x @ weight.T + (0 if bias is None else bias)
        return x.reshape(*x.shape[:2], heads, -1).clamp(-self.clip, self.clip)


# --- weights ---


def of(layer: nn.Module) -> Linear:
    """The weight (out, in) and the bias of a linear layer, of GPT-2's transposed one, or of a convolution of one."""
    weight = layer.weight.detach().double().flatten(1)
    return weight.T if type(layer).__name__ == "Conv1D" else weight, None if layer.bias is None else layer.bias.detach()


def cut(layer: nn.Module, *parts: list[int], biases: tuple = (None, None, None)) -> list[Linear]:
    """Cut the rows of queries, keys and values out of a fused projection; biases may be apart."""
    weight, bias = of(layer)
    return [
        (weight[rows], own if own is not None else None if bias is None else bias[rows])
        for rows, own in zip(parts, biases, strict=True)
    ]


def rows(first: Callable[[int], int], heads: int, dim: int) -> list[int]:
    """The rows of heads that begin at ``first(head)``."""
    return [first(head) + i for head in range(heads) for i in range(dim)]


def thirds(heads: int, dim: int, kv_heads: int | None = None) -> list[list[int]]:
    kv_heads = heads if kv_heads is None else kv_heads
    starts = (0, heads, heads + kv_heads)
    return [
        rows(lambda h, start=start: (start + h) * dim, n, dim)
        for start, n in zip(starts, (heads, kv_heads, kv_heads), strict=True)
    ]


def by_head(heads: int, dim: int, value_dim: int | None = None) -> list[list[int]]:
    value_dim = dim if value_dim is None else value_dim
    step = 2 * dim + value_dim
    return [
        rows(lambda h: h * step, heads, dim),
        rows(lambda h: h * step + dim, heads, dim),
        rows(lambda h: h * step + 2 * dim, heads, value_dim),
    ]


def by_group(heads: int, dim: int, groups: int) -> list[list[int]]:
    size = heads // groups
    return [
        rows(lambda h: (h // size * (size + 2) + h % size) * dim, heads, dim),
        rows(lambda g: (g * (size + 2) + size) * dim, groups, dim),
        rows(lambda g: (g * (size + 2) + size + 1) * dim, groups, dim),
    ]


def shards(width: int, count: int) -> list[list[int]]:
    """CodeGen's: of each shard the queries, the values and the keys."""
    local = width // count
    return [[n // local * 3 * local + kind * local + n % local for n in range(width)] for kind in (0, 2, 1)]


# --- what layers do to their queries ---


def turned(theta: float, dims: int | None = None, first: int = 0, adjacent: bool = False) -> Callable:
    """Rotate ``dims`` numbers of each head, from ``first`` on, by the token's place; pairs are adjacent or far."""

    def turn(x: Tensor, _call: dict) -> Tensor:
        count = (x.shape[-1] if dims is None else dims) // 2
        out = x.clone()
        for token in range(x.shape[1]):
            for i in range(count):
                one, other = (2 * i, 2 * i + 1) if adjacent else (i, i + count)
                angle = token * theta ** (-i / count)
                a, b = x[:, token, :, first + one], x[:, token, :, first + other]
                out[:, token, :, first + one] = a * math.cos(angle) - b * math.sin(angle)
                out[:, token, :, first + other] = b * math.cos(angle) + a * math.sin(angle)
        return out

    return turn


def unit(x: Tensor, *_: object) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def norm_of(layer: nn.LayerNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = layer.weight.detach(), 0 if layer.bias is None else layer.bias.detach()

    def apply(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * weight + bias

    return apply
