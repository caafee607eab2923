"""A toy method that sees training examples before the first step, and keeps what it saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.method import Method
from zipeft.modules.held_tensors import hold

seen: list[Any] = []
"""The inputs and the targets of all batches that the toy was shown."""


class Shift(nn.Module):
    """Adds what trains, and what was held of training data, to hidden states (batch, tokens, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.learnt = nn.Parameter(torch.zeros(width))
        hold(self, "mean", torch.zeros(width))

    def add(self, _block: nn.Module, _args: tuple[Any, ...], hidden: Tensor) -> Tensor:
        return hidden + self.learnt + 0.1 * self.mean


@dataclass(frozen=True)
class SeesData(Method):
    """Shifts the last block's output; it starts at the gradient of the loss, and holds the mean of what it saw."""

    examples: int = 10

    def apply(self, backbone: Any, model: nn.Module) -> None:
        block = backbone.blocks(model)[-1]
        block.shift = Shift(backbone.hidden_width(model))
        block.register_forward_hook(block.shift.add)

    def sample_size(self) -> int:
        return self.examples

    def initialise(self, backbone: Any, model: nn.Module, sample: Any) -> None:
        shift = backbone.blocks(model)[-1].shift
        means = []
        handle = backbone.blocks(model)[-1].register_forward_hook(
            lambda block, args, hidden: means.append(hidden.detach().mean((0, 1)))
        )
        for batch in sample:
            seen.append((batch.inputs, batch.targets))
            sample.loss(batch).backward()
        handle.remove()
        with torch.no_grad():
            shift.learnt += 0.1 * shift.learnt.grad + 1e-3 * torch.randn(len(shift.learnt))
            shift.mean.copy_(torch.stack(means).mean(0))


@dataclass(frozen=True)
class AddsWhatTrains(SeesData):
    """Breaks the rule: it lets more train than it did."""

    def initialise(self, backbone: Any, model: nn.Module, sample: Any) -> None:
        next(model.parameters()).requires_grad_(True)
