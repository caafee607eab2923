"""Spearman's correlation."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from zipeft.metrics.correlation import Correlation


class Spearman(Correlation):
    """``spearman``: the correlation of the ranks of predicted and right numbers, -1 to 1; 0 where it is undefined.

    Equal numbers share the mean of their ranks.
    """

    key = "spearman"

    @staticmethod
    def _statistic(predictions: np.ndarray, references: np.ndarray) -> float:
        return spearmanr(predictions, references).statistic
