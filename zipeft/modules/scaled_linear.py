"""Linear layers with a learnt scale and bias of their outputs (LLaMA-Adapter V2, arXiv 2304.15010, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class ScaledLinear(nn.Linear):
    """A linear layer, whose outputs are shifted and scaled: y = scale * (W x + b + shift).

    It has the layer's own weight and bias, which stay as they are. ``scale`` and ``shift`` (out features,) are float32;
    they start at one and at zero, where the layer computes what it did, bit for bit.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        size, device = linear.out_features, linear.weight.device
        self.scale = nn.Parameter(torch.ones(size, device=device, dtype=torch.float32))
        self.shift = nn.Parameter(torch.zeros(size, device=device, dtype=torch.float32))
        self.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        return ((output + self.shift) * self.scale).to(output.dtype)


def scale_linears(parts: Iterable[nn.Module]) -> list[ScaledLinear]:
    """Put a ``ScaledLinear`` in the place of each linear layer of some parts of a model, and return them.

    A subclass of ``nn.Linear`` is left alone: what else it does, or who reads its weight, is not known.
    """
    scaled = []
    for part in parts:
        for module in list(part.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Linear:
                    scaled.append(ScaledLinear(child))
                    setattr(module, name, scaled[-1])
    return scaled
