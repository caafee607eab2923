"""Learnt keys and values behind a gate that starts at zero: P-tuning v2's prefix in LLaMA-Adapter's gated term."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipeft.modules.gated_attention import GatedAttention, KeyValueProjection


class ZeroGatedKeyValues(GatedAttention):
    """Keys and values that are learnt themselves, and join one attention layer through a gate that starts at zero.

    P-tuning v2 (arXiv 2110.07602) and prefix tuning (arXiv 2101.00190) learn such keys and values, in one softmax with
    the tokens'; here they have a softmax and a gate of their own. ``key`` (key-value heads, length, head dim) and
    ``value`` are there once ``fit`` knows the layer's sizes.

    Args:
        heads: number of query heads.
        length: number of keys, and of values.
        gate, gate_activation, gate_init: see ``GatedAttention``.
        prompt_std: standard deviation of the initial values.
    """

    key: nn.Parameter
    value: nn.Parameter

    def __init__(
        self,
        heads: int,
        length: int = 10,
        *,
        gate: str = "head",
        gate_activation: str = "tanh",
        gate_init: str = "zero",
        prompt_std: float = 1.0,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(heads, gate=gate, gate_activation=gate_activation, gate_init=gate_init, device=device)
        self.length, self.prompt_std = length, prompt_std

    @property
    def needs_sizes(self) -> bool:
        return True

    def fit(self, key: Tensor, value: Tensor) -> None:
        for name, like in (("key", key), ("value", value)):
            size = (like.shape[-3], self.length, like.shape[-1])
            parameter = nn.Parameter(torch.empty(size, device=self.device, dtype=torch.float32))
            setattr(self, name, nn.init.normal_(parameter, std=self.prompt_std))
        if self.gate_of != "channel":
            self.new_gate(self.heads if self.gate_of == "head" else 1)
        super().fit(key, value)

    def learnt(self) -> Sequence[Tensor]:
        return self.key, self.value

    def keys_and_values(self, dtype: torch.dtype, project: KeyValueProjection) -> tuple[Tensor, Tensor]:
        return self.key.to(dtype), self.value.to(dtype)

    @torch.no_grad()
    def start_from(self, tokens: Tensor, project: KeyValueProjection) -> None:
        for parameter, start in zip((self.key, self.value), project(tokens), strict=True):
            parameter.copy_(start)

    def extra_repr(self) -> str:
        return f"length={self.length}, gates={self.gate.numel()}, gate_activation={self.gate_activation}"
