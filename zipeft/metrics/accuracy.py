"""Accuracy."""

from __future__ import annotations

from datasets import Value
from sklearn.metrics import accuracy_score

from zipeft.metrics.base import Metric


class Accuracy(Metric):
    """``accuracy``: the part of the predicted classes that are right, 0 to 1."""

    prediction = reference = Value("int64")

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}
