"""Scales and shifts of what a model's layers return (SSF, arXiv 2210.08823)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zipeft.modules.hooked import Hooked

STD = 0.02
"""Of the initial scales around 1 and shifts around 0."""


class ScaleShift(Hooked):
    """Equation 4 of the paper: y = scale * x + shift, numbers of the last dimension, or of channels.

    Args:
        width: of what is scaled, (..., width), or with ``channels`` (batch, width, height, width).
    """

    def __init__(self, width: int, channels: bool = False, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.channels = channels
        self.scale = nn.Parameter(torch.empty(width, device=device, dtype=torch.float32).normal_(1.0, STD))
        self.shift = nn.Parameter(torch.empty(width, device=device, dtype=torch.float32).normal_(0.0, STD))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` scaled and shifted, in its own dtype."""
        scale, shift = self.scale.to(x.dtype), self.shift.to(x.dtype)
        if self.channels:
            scale, shift = scale[:, None, None], shift[:, None, None]
        return scale * x + shift

    def follow(self, _layer: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Scale and shift what a layer returns; a forward hook."""
        return self(output)


def insert(model: nn.Module) -> int:
    """Put scales and shifts behind each linear layer, normalisation and convolution of a model; return how many."""
    found = 0
    for module in list(model.modules()):
        width = _width(module)
        if width:
            after = ScaleShift(width, isinstance(module, nn.Conv2d), next(module.parameters()).device)
            after.handles.append(module.register_forward_hook(after.follow))
            module.add_module("scale_shift", after)
            found += 1
    return found


def _width(module: nn.Module) -> int:
    """Return how many numbers, or channels, a layer returns, or 0 for what is none of these layers."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    weight = getattr(module, "weight", None)
    return weight.numel() if "norm" in type(module).__name__.lower() and isinstance(weight, Tensor) else 0
