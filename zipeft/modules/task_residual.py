"""A learnt residual of each class's text features (TaskRes, arXiv 2211.10277)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.modules.matching_adapter import MatchingAdapter, places


class TaskResidual(MatchingAdapter):
    """t + scale * x of a class's text features t, with one learnt x a class, which starts at zero (arXiv 2211.10277).

    Args:
        names: of the classes that have a residual; others keep their text features.
        width: of the features.
        scale: of what is added.
    """

    def __init__(
        self, names: Sequence[str], width: int, scale: float, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.names, self.scale = tuple(names), scale
        self.residual = nn.Parameter(torch.zeros(len(names), width, device=device, dtype=torch.float32))

    def classes(self, features: Tensor, names: Sequence[str]) -> Tensor:
        rows: Tensor = self.residual
        if tuple(names) != self.names:
            rows = functional.pad(rows, (0, 0, 0, 1))[places(names, self.names)]  # the last row, of others, is zero
        return features + self.scale * rows.to(features.dtype)
