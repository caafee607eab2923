"""The zero-initialised gated prompt of LLaMA-Adapter (arXiv 2303.16199, section 3), for any attention layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zipeft.modules.gated_attention import GatedAttention, KeyValueProjection


class ZeroGatedPrompt(GatedAttention):
    """A prompt that joins one attention layer through a gate that starts at zero.

    Its keys and values are the prompt P (length, width) put through the layer's own frozen projections. On their way
    there the tokens may pass a module that several prompts share (``share``) and a frozen norm (``normalise``).

    Args:
        width: width of the hidden states that the layer takes.
        heads: number of query heads.
        length: number of prompt tokens K.
        gate, gate_activation, gate_init: see ``GatedAttention``.
        prompt_std: standard deviation of the prompt's initial values.
    """

    def __init__(
        self,
        width: int,
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
        self.prompt = nn.Parameter(torch.empty(length, width, device=device, dtype=torch.float32))
        nn.init.normal_(self.prompt, std=prompt_std)
        if gate != "channel":
            self.new_gate(heads if gate == "head" else 1)
        self.condition: Tensor | None = None
        """Added to the prompt, the same for each of its tokens: (batch, width), or None. The paper's multimodal
        form (section 3.4), where it is the projected feature of an image."""
        self._shared: tuple[nn.Module, ...] = ()
        self._norm: tuple[nn.Module, ...] = ()

    def share(self, module: nn.Module) -> None:
        """Let tokens pass a module, which lives elsewhere in the model, before a condition is added."""
        self._shared = (module,)

    def normalise(self, norm: nn.Module) -> None:
        """Let tokens pass a norm, which lives elsewhere in the model, right before the projections."""
        self._norm = (norm,)

    @property
    def length(self) -> int:
        return len(self.prompt)

    @property
    def norm(self) -> nn.Module | None:
        """What tokens pass right before the projections, if anything."""
        return next(iter(self._norm), None)

    @property
    def is_plain(self) -> bool:
        """Whether the prompt itself is what the layer projects, with a gate a head or one in all."""
        return not self._shared and not self._norm and self.gate_of != "channel"

    @property
    def is_conditioned(self) -> bool:
        return self.condition is not None

    def learnt(self) -> Sequence[Tensor]:
        return (self.prompt, *(p for module in (*self._shared, *self._norm) for p in module.parameters()))

    def keys_and_values(self, dtype: torch.dtype, project: KeyValueProjection) -> tuple[Tensor, Tensor]:
        return project(self.tokens(dtype))

    def tokens(self, dtype: torch.dtype) -> Tensor:
        """Return what the layer projects, (..., length, width)."""
        prompt: Tensor = self.prompt
        for module in self._shared:
            prompt = module(prompt)
        if self.condition is not None:
            prompt = prompt + self.condition.unsqueeze(-2)
        for norm in self._norm:
            weight = next(norm.parameters(), prompt)
            prompt = norm(prompt.to(weight.dtype))
        return prompt.to(dtype)

    @torch.no_grad()
    def start_from(self, tokens: Tensor, project: KeyValueProjection) -> None:
        self.prompt.copy_(tokens)

    def extra_repr(self) -> str:
        length, width = self.prompt.shape
        return f"length={length}, width={width}, gates={self.gate.numel()}, gate_activation={self.gate_activation}"
