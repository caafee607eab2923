"""A bottleneck on the features of images, mixed with what it takes (CLIP-Adapter, arXiv 2110.04544)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.modules.hooked import linear
from zipeft.modules.matching_adapter import MatchingAdapter


class FeatureAdapter(MatchingAdapter):
    """CLIP-Adapter on images: ratio * ReLU(f W1) W2 + (1 - ratio) * f of features f (arXiv 2110.04544, section 3.2).

    Args:
        width: of the features.
        bottleneck: of what is between W1 and W2.
        ratio: the part of the adapted features.
    """

    def __init__(self, width: int, bottleneck: int, ratio: float, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(width, bottleneck, bias=False, device=device, dtype=torch.float32)
        self.up = nn.Linear(bottleneck, width, bias=False, device=device, dtype=torch.float32)

    def images(self, features: Tensor) -> Tensor:
        adapted = linear(functional.relu(linear(features, self.down)), self.up)
        return self.ratio * adapted + (1 - self.ratio) * features
