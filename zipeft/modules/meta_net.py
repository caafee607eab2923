"""The network by which an image conditions learnt words (CoCoOp, arXiv 2203.05557)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.modules.hooked import linear


class MetaNet(nn.Module):
    """Two linear layers with a ReLU between, from an image's features to what is added to each learnt word.

    The hidden layer is ``width`` // ``reduction`` wide (arXiv 2203.05557, section 3.2: 16).

    Args:
        width: of the image's normalised features.
        words: the width of a word's embedding.
        reduction: by which the hidden layer is narrower than the features.
    """

    def __init__(self, width: int, words: int, reduction: int, device: torch.device | str | None = None) -> None:
        super().__init__()
        hidden = max(width // reduction, 1)
        self.down = nn.Linear(width, hidden, device=device, dtype=torch.float32)
        self.up = nn.Linear(hidden, words, device=device, dtype=torch.float32)

    def forward(self, features: Tensor) -> Tensor:
        """Return what is added to the words (batch, words) for features (batch, width), in their dtype."""
        return linear(functional.relu(linear(features, self.down)), self.up)
