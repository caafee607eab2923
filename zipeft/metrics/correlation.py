"""Correlations of predicted and right numbers: Pearson's and Spearman's."""

from __future__ import annotations

import abc
import warnings
from typing import ClassVar

import numpy as np
from datasets import Value
from scipy.stats import pearsonr, spearmanr

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


class Pearson(Correlation):
    """``pearson``: the linear correlation of predicted and right numbers, -1 to 1; 0 where it is undefined."""

    key = "pearson"

    @staticmethod
    def _statistic(predictions: np.ndarray, references: np.ndarray) -> float:
        return pearsonr(predictions, references).statistic


class Spearman(Correlation):
    """``spearman``: the correlation of the ranks of predicted and right numbers, -1 to 1; 0 where it is undefined.

    Equal numbers share the mean of their ranks.
    """

    key = "spearman"

    @staticmethod
    def _statistic(predictions: np.ndarray, references: np.ndarray) -> float:
        return spearmanr(predictions, references).statistic
