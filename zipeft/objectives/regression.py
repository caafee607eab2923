"""Ratings: one number an example, scored by correlation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from zipeft import metrics
from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.api.precision import at_least_float32
from zipeft.errors import require

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Regression(Objective):
    """One number an example: linear head, mean squared error, Pearson's and Spearman's correlation.

    The head learns where on the scale from ``low`` to ``high`` a number is, 0 to 1, and starts in the middle: whatever
    the scale, the same learning rates suit it. Predictions are on the scale of the targets, and may leave it.
    """

    low: float = 0.0
    high: float = 1.0

    metric: ClassVar[str] = "pearson"

    def __post_init__(self) -> None:
        require(self.low < self.high, "low must be less than high")

    def head(self, classes: Sequence[str], width: int) -> nn.Linear:
        from torch import nn

        head = nn.Linear(width, 1)
        nn.init.constant_(head.bias, 0.5)
        return head

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of outputs (batch, 1), in units of the scale, for targets (batch,) on it."""
        from torch.nn import functional

        outputs = at_least_float32(outputs.squeeze(-1))
        places = (targets - self.low) / (self.high - self.low)
        return functional.mse_loss(outputs, places.to(outputs.dtype))

    def predict(self, outputs: Tensor) -> list[float]:
        return [self.low + (self.high - self.low) * place for place in outputs.squeeze(-1).tolist()]

    def score(self, predictions: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
        return metrics.compute(("pearson", "spearman"), predictions, targets)

    def trivial(self, train: Sequence[float], classes: Sequence[str]) -> TrivialAnswer:
        return self.always("mean", fmean(map(float, train)))
