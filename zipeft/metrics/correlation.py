"""What the correlations of numbers share."""

from __future__ import annotations

import abc
import warnings
from typing import ClassVar

import numpy as np
from datasets import Value

from zipeft.metrics.base import Metric


class Correlation(Metric):
    """A correlation of predicted and right numbers, -1 to 1, under ``key``.

    It is 0 where it is undefined: all predictions or all references are equal, or some are not finite.
    """

    key: ClassVar[str]
    prediction = reference = Value("float64")

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        pair = np.asarray(predictions), np.asarray(references)
        if not all(np.isfinite(numbers).all() and np.ptp(numbers) > 0 for numbers in pair):
            return {self.key: 0.0}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="An input array is nearly constant")
            return {self.key: float(self._statistic(*pair))}

    @staticmethod
    @abc.abstractmethod
    def _statistic(predictions: np.ndarray, references: np.ndarray) -> float:
        """Return the correlation of numbers that are finite and not all equal."""
