"""Pearson's correlation."""

from __future__ import annotations

import numpy as np
from scipy.stats import pearsonr

from zipeft.metrics.correlation import Correlation


class Pearson(Correlation):
    """``pearson``: the linear correlation of predicted and right numbers, -1 to 1; 0 where it is undefined."""

    key = "pearson"

    @staticmethod
    def _statistic(predictions: np.ndarray, references: np.ndarray) -> float:
        return pearsonr(predictions, references).statistic
