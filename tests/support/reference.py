"""An independent float64 reference of one gated layer, written from equation 7 of LLaMA-Adapter (arXiv 2303.16199).

Prompt and words form one list of keys and values. The scores of each are put through a softmax of their own, the
prompt's is multiplied by the squashed gate, and both times the values go to the output projection:

    out = W_o [softmax(S^K) * tanh(g); softmax(S^(M+1))] [V_P; V]

Everything here is written out in loops and uses neither a fused kernel nor anything of the package under test.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Norm = Callable[[Tensor], Tensor]
Linear = tuple[Tensor, "Tensor | None"]


def identity(x: Tensor, *_: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Layer:
    """One attention layer: its weights in float64, and what its architecture says about them.

    Norms take (batch, tokens, heads, head dim); ``before_output`` takes the heads' joined result (batch, tokens,
    heads * head dim) and the layer's input. ``turn`` is another rotary embedding than that of ``rope_theta``.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    head_dim: int
    scale: float
    query_norm: Norm = identity
    key_norm: Norm = identity
    rope_theta: float | None = None
    turn: Norm = identity
    before_output: Callable[[Tensor, Tensor], Tensor] = identity

    def __call__(
        self, hidden: Tensor, prompt: nn.Module, mask: Tensor | None = None, **inputs: Tensor | None
    ) -> Tensor:
        """Return the layer's result (batch, queries, width) for its input (batch, queries, width).

        Args:
            prompt: an object with ``prompt`` (length, width), or ``key`` and ``value`` (heads, length, head dim); with
                ``gate`` (heads,), (1,) or (heads * head dim,), and ``gate_activation``.
            mask: added to the words' scores, broadcast to (batch, heads, queries, keys).
            inputs: ``keys`` and ``values``, where they are not the queries' input, and ``condition`` (batch, width).
        """
        hidden = hidden.double()
        keys, values = (hidden if (x := inputs.get(name)) is None else x.double() for name in ("keys", "values"))
        q = self.turn(rotate(self.heads(hidden, self.query, self.query_norm), self.rope_theta))
        k = self.turn(rotate(self.heads(keys, self.key, self.key_norm), self.rope_theta))
        v = self.heads(values, self.value)
        k_prompt, v_prompt = self.of_prompt(prompt, len(hidden), inputs.get("condition"))
        gate = prompt.gate.detach().double()
        gate = {"tanh": gate.tanh(), "none": gate}[prompt.gate_activation]
        joined = two_softmaxes(q * self.scale, (k_prompt, k), (v_prompt, v), gate, mask)
        return linear(self.before_output(joined, hidden), self.output)

    def of_prompt(self, prompt: nn.Module, batch: int, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the prompt's keys and values, each (batch, length, heads, head dim)."""
        if hasattr(prompt, "key"):
            learnt = (x.detach().double().transpose(0, 1) for x in (prompt.key, prompt.value))
            key, value = (x.expand(batch, *x.shape) for x in learnt)
            return key, value
        prompts = prompt.prompt.detach().double().expand(batch, -1, -1)
        if condition is not None:
            prompts = prompts + condition.double()[:, None, :]
        return self.heads(prompts, self.key, self.key_norm), self.heads(prompts, self.value)

    def heads(self, x: Tensor, projection: Linear, norm: Norm = identity) -> Tensor:
        """Project (batch, tokens, width) to (batch, tokens, heads, head dim), through a norm."""
        x = linear(x, projection)
        return norm(x.reshape(*x.shape[:2], -1, self.head_dim))


def two_softmaxes(query: Tensor, keys: tuple, values: tuple, gate: Tensor, mask: Tensor | None) -> Tensor:
    """Return (batch, queries, heads * head dim) of a scaled query and (prompt, words) keys and values."""
    batch, tokens, heads, _ = query.shape
    length = keys[0].shape[1]
    shared = heads // keys[0].shape[2]
    key, value = (torch.cat(both, dim=1).repeat_interleave(shared, dim=2) for both in (keys, values))
    if mask is None:
        mask = torch.zeros((), dtype=torch.float64)
    mask = mask.double().expand(batch, heads, tokens, key.shape[1] - length)
    gate = gate.expand(heads) if len(gate) == 1 else gate
    gate = gate.view(heads, -1)
    out = torch.empty(batch, tokens, heads, value.shape[-1], dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            for t in range(tokens):
                scores = key[b, :, h] @ query[b, t, h]
                of_prompt, of_words = softmax(scores[:length]), softmax(scores[length:] + mask[b, h, t])
                out[b, t, h] = gate[h] * (of_prompt @ value[b, :length, h]) + of_words @ value[b, length:, h]
    return out.flatten(2)


def softmax(scores: Tensor) -> Tensor:
    powers = (scores - scores.max()).exp()
    return powers / powers.sum()


def linear(x: Tensor, projection: Linear) -> Tensor:
    weight, bias = projection
    return torch.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias)


def rotate(x: Tensor, theta: float | None) -> Tensor:
    """Turn each pair (i, i + dim / 2) of (batch, tokens, heads, dim) by position * theta ** (-2 i / dim)."""
    if theta is None:
        return x
    half = x.shape[-1] // 2
    out = torch.empty_like(x)
    for position in range(x.shape[1]):
        for i in range(half):
            angle = position * theta ** (-i / half)
            a, b = x[:, position, :, i], x[:, position, :, i + half]
            out[:, position, :, i] = a * math.cos(angle) - b * math.sin(angle)
            out[:, position, :, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def rms_norm(norm: nn.Module, epsilon: float, *, offset: float = 0.0, all_heads: bool = False) -> Norm:
    """Root-mean-square norm with ``offset + weight``, over each head or over all of them together."""
    weight = norm.weight.detach().double() + offset

    def apply(x: Tensor) -> Tensor:
        flat = x.flatten(2) if all_heads else x
        flat = flat * (flat.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight
        return flat.view_as(x)

    return apply


def layer_norm(norm: nn.LayerNorm) -> Norm:
    weight, bias = norm.weight.detach().double(), norm.bias.detach().double()

    def apply(x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt() * weight + bias

    return apply


def of_linear(layer: nn.Linear) -> Linear:
    return layer.weight.detach().double(), None if layer.bias is None else layer.bias.detach().double()


def of_fused(weight: Tensor, bias: Tensor | None) -> list[Linear]:
    """Cut a fused (3 * width, ...) projection into the query's, the key's and the value's."""
    size = weight.shape[0] // 3
    parts = [slice(i * size, (i + 1) * size) for i in range(3)]
    return [(weight[p].detach().double(), None if bias is None else bias[p].detach().double()) for p in parts]


def of_transformers(attention: nn.Module, output: nn.Linear | None, head_dim: int, **settings) -> Layer:
    """A layer with three projections, in either of transformers' namings, and with or without an output projection."""
    names = ("q_proj", "k_proj", "v_proj") if hasattr(attention, "q_proj") else ("query", "key", "value")
    projections = [of_linear(getattr(attention, name)) for name in names]
    settings = {"scale": head_dim**-0.5} | settings
    unprojected = torch.eye(len(projections[0][0]), dtype=torch.float64), None
    return Layer(*projections, unprojected if output is None else of_linear(output), head_dim, **settings)


def turn_pairs(x: Tensor, angles: Tensor, first: int, half: bool) -> Tensor:
    """Turn the pairs of each head's numbers, as ``rotate`` does, by angles given for the tokens from ``first`` on.

    A pair is (i, i + dim / 2) where ``half``, else (2 i, 2 i + 1). ``angles`` (tokens, 2 * dim) holds sines and
    cosines, each twice, where the pair has its numbers.
    """
    out, pairs = x.clone(), x.shape[-1] // 2
    sines, cosines = angles.double().chunk(2, -1)
    for token in range(first, x.shape[1]):
        for i in range(pairs):
            one, other = (i, i + pairs) if half else (2 * i, 2 * i + 1)
            sine, cosine = sines[token - first, one], cosines[token - first, one]
            a, b = x[:, token, :, one], x[:, token, :, other]
            out[:, token, :, one] = a * cosine - b * sine
            out[:, token, :, other] = b * cosine + a * sine
    return out


def of_timm(attention: nn.Module, angles: Tensor | None = None) -> Layer:
    """timm's attention: fused qkv or three, QK-norm, a norm of the result, and a sigmoid gate on it (of the input).

    ``angles`` are those of its rotary embedding, if it has one.
    """
    attention = copy.deepcopy(attention).double()

    def norm(layer: nn.Module) -> Norm:
        return layer_norm(layer) if isinstance(layer, nn.LayerNorm) else identity

    def before_output(joined: Tensor, hidden: Tensor) -> Tensor:
        joined = norm(attention.norm)(joined)
        gated = getattr(attention, "gate", None) is not None
        return joined / (1 + (-linear(hidden, of_linear(attention.gate))).exp()) if gated else joined

    def turn(x: Tensor) -> Tensor:
        return x if angles is None else turn_pairs(x, angles, attention.num_prefix_tokens, attention.rotate_half)

    dim = attention.proj.in_features // attention.num_heads
    if attention.qkv is None:
        projections = [of_linear(layer) for layer in (attention.q_proj, attention.k_proj, attention.v_proj)]
    else:
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        projections = of_fused(attention.qkv.weight, bias)
    norms = {"query_norm": norm(attention.q_norm), "key_norm": norm(attention.k_norm), "turn": turn}
    return Layer(*projections, of_linear(attention.proj), dim, dim**-0.5, **norms, before_output=before_output)


def of_multihead(attention: nn.MultiheadAttention) -> Layer:
    dim = attention.embed_dim // attention.num_heads
    projections = of_fused(attention.in_proj_weight, attention.in_proj_bias)
    return Layer(*projections, of_linear(attention.out_proj), dim, dim**-0.5)


def causal_mask(tokens: int, window: int | None = None) -> Tensor:
    """(tokens, tokens), minus infinity where a query may not look: ahead, or ``window`` or more tokens back."""
    mask = torch.zeros(tokens, tokens, dtype=torch.float64)
    for query in range(tokens):
        for key in range(tokens):
            if key > query or (window is not None and query - key >= window):
                mask[query, key] = -math.inf
    return mask


def padding_mask(real: Tensor) -> Tensor:
    """(batch, 1, 1, keys), minus infinity where ``real`` (batch, keys) is zero or False."""
    mask = torch.zeros(real.shape, dtype=torch.float64)
    mask[~real.bool()] = -math.inf
    return mask[:, None, None]
