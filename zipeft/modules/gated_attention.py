"""Attention to something learnt, beside a layer's own, through a gate that starts at zero (arXiv 2303.16199)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

GATES = ("head", "layer", "channel")
GATE_ACTIVATIONS = {"tanh": torch.tanh, "none": lambda gate: gate}

KeyValueProjection = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From prompts (..., length, width) to keys and values, each (..., key-value heads, length, head dim)."""

TensorsRead = Callable[[], Sequence[Tensor] | None]


def nothing_frozen() -> Sequence[Tensor]:
    """The tensors that a projection without parameters reads."""
    return ()


class GatedAttention(nn.Module):
    """What joins one attention layer through a gate that starts at zero.

    With queries q after the rotary embedding, where there is one, the layer's attention becomes

        attention(q, k, v) + gate_activation(g) * attention(q, k_P, v_P)

    before its output projection. A subclass says what the keys k_P and values v_P are. This is the paper's equation 7,
    two softmaxes of which one is gated, written so that the layer's own fused attention stays as it is.

    What is learnt is float32 and stays so when the model around it is cast to another dtype.

    Args:
        heads: number of query heads.
        gate: "head" for one gate a head, "layer" for one in all, "channel" for one a number of each head's result,
            which are there once ``fit`` knows how many that are.
        gate_activation: "tanh" (the paper) or "none".
        gate_init: "zero" (the paper), or "random" for the ablation: the gate is drawn from N(0, 1).
    """

    gate: nn.Parameter

    def __init__(
        self,
        heads: int,
        *,
        gate: str = "head",
        gate_activation: str = "tanh",
        gate_init: str = "zero",
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        check("gate", gate, GATES)
        check("gate_activation", gate_activation, GATE_ACTIVATIONS)
        check("gate_init", gate_init, ("zero", "random"))
        self.heads, self.gate_of, self.gate_activation, self.gate_init = heads, gate, gate_activation, gate_init
        self.device = device
        self._cache: tuple[tuple[Any, ...], tuple[Tensor, Tensor], tuple[Tensor, ...]] | None = None

    def forward(
        self,
        query: Tensor,
        project: KeyValueProjection,
        scale: float,
        frozen: TensorsRead = nothing_frozen,
        cap: float | None = None,
    ) -> Tensor:
        """Return the gated term (batch, heads, queries, head dim), to be added before the output projection.

        Args:
            query: (batch, heads, queries, head dim), as the layer's own attention takes it.
            project: the layer's own key and value projections.
            scale: what the layer multiplies its scores by.
            frozen: lists the tensors that ``project`` reads; a change to one drops the cached keys and values. Returns
                None where more than tensors decides what ``project`` gives: then nothing is cached.
            cap: the bound of the layer's scores, where it has one (Gemma 2).
        """
        return attend(query, *self._keys_and_values(query, project, frozen), scale, cap)

    def keys_and_values(self, dtype: torch.dtype, project: KeyValueProjection) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, each (..., key-value heads, length, head dim), for queries of a dtype."""
        raise NotImplementedError

    def learnt(self) -> Sequence[Tensor]:
        """Return the parameters that decide keys and values, beside what ``project`` reads."""
        raise NotImplementedError

    def start_from(self, tokens: Tensor, project: KeyValueProjection) -> None:
        """Take the start of what is learnt from prompt tokens (length, width) for the layer's projections."""
        raise NotImplementedError

    @property
    def is_conditioned(self) -> bool:
        """Whether keys and values differ between examples."""
        return False

    @property
    def needs_sizes(self) -> bool:
        """Whether ``fit`` has to be called before anything else."""
        return self.gate_of == "channel"

    def fit(self, key: Tensor, value: Tensor) -> None:
        """Take the sizes of the layer's keys and values, each (key-value heads, length, head dim)."""
        if self.gate_of == "channel":
            self.new_gate(self.heads * value.shape[-1])

    def new_gate(self, size: int) -> None:
        """Make the gate, which subclasses do after what it lets through."""
        self.gate = nn.Parameter(torch.zeros(size, device=self.device, dtype=torch.float32))
        if self.gate_init == "random":
            nn.init.normal_(self.gate)

    def _keys_and_values(
        self, query: Tensor, project: KeyValueProjection, frozen: TensorsRead
    ) -> tuple[Tensor, Tensor]:
        """Make keys and gated values; while gradients are off, only when something changed since the last time."""
        # What a graph reads anew is never stale; to look for changes would split it.
        if self.is_conditioned or torch.compiler.is_compiling():
            return self._gated(query, project)
        read = frozen()
        read = None if read is None else (*self.learnt(), self.gate, *read)
        # A waiting gradient means that an optimiser may step, and fused ones write without counting a version.
        if torch.is_grad_enabled() or read is None or any(tensor.grad is not None for tensor in read):
            self._cache = None
            return self._gated(query, project)
        state = (query.dtype, _autocasts(self.gate.device.type), *map(_state, read))
        if self._cache is None or self._cache[0] != state:
            # The tensors are kept too: the identity and address of one that is freed go to the next.
            self._cache = (state, self._gated(query, project), read)
        return self._cache[1]

    def _gated(self, query: Tensor, project: KeyValueProjection) -> tuple[Tensor, Tensor]:
        """Return keys and values of each query head. The gate multiplies the values of a few tokens here, not the term
        of all queries."""
        key, value = (_of_each_head(x, query.shape[1]) for x in self.keys_and_values(query.dtype, project))
        gate = GATE_ACTIVATIONS[self.gate_activation](self.gate)
        gate = gate.view(1 if self.gate_of == "layer" else self.heads, 1, -1)
        return key, (gate * value).to(value.dtype)

    def train(self, mode: bool = True) -> GatedAttention:
        self._cache = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GatedAttention:
        """Follow the model to another device, but not to another dtype: small updates vanish in bfloat16."""
        self._cache = None
        return super()._apply(keeping_dtype(fn), recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}


def keeping_dtype(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return what moves a tensor as ``fn`` does, and leaves it in its dtype."""

    def moved(tensor: Tensor) -> Tensor:
        there = fn(tensor)
        return there if there.dtype == tensor.dtype else tensor.to(there.device)

    return moved


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, cap: float | None = None) -> Tensor:
    """Scaled dot-product attention to a few keys that the whole batch, or each example, shares.

    Keys and values are expanded over the batch, and over query heads that share them (grouped-query attention). They
    are few, and queries are many: these stay as they lie, and any fused kernel applies.

    Args:
        query: (batch, heads, queries, head dim).
        key, value: (heads or a divisor, keys, head dim), or the same with a batch dimension in front.
        cap: where it is given, a score s becomes ``cap * tanh(s / cap)``, which no fused kernel of PyTorch does.

    Returns: (batch, heads, queries, head dim).
    """
    batch, heads, *_ = query.shape
    key, value = (_of_each_head(x, heads).expand(batch, -1, -1, -1) for x in (key, value))
    if cap is None:
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)
    scores = cap * torch.tanh(query @ key.transpose(-1, -2) * (scale / cap))
    precise = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(-1, dtype=precise).to(query.dtype) @ value


def _of_each_head(x: Tensor, heads: int) -> Tensor:
    """(..., key-value heads, keys, head dim) to (..., heads, keys, head dim)."""
    own = x.shape[-3]
    return x if own == heads else x.repeat_interleave(heads // own, -3)


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """What changes whenever a tensor's values, place or dtype do: in-place writes raise ``_version``.

    A tensor made in inference mode counts no versions; a new object in its place never equals an old state.
    """
    version = object() if tensor.is_inference() else tensor._version
    return id(tensor), tensor.data_ptr(), version, tensor.dtype, tensor.device


def _autocasts(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def check(setting: str, value: str, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` for a value of a setting that is none of its choices."""
    if value not in choices:
        raise ValueError(f"{setting} is {value!r}; it must be one of {', '.join(choices)}")
