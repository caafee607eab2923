"""F1 of two classes."""

from __future__ import annotations

from datasets import Value
from sklearn.metrics import f1_score

from zipeft.metrics.base import Metric


class F1(Metric):
    """``f1``: the harmonic mean of precision and recall of class 1 of two classes, 0 to 1.

    It is 0 where class 1 is neither predicted nor right. Raises ``ValueError`` if there are more classes.
    """

    prediction = reference = Value("int64")

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        if not {*predictions, *references} <= {0, 1}:
            raise ValueError("F1 is of two classes, 0 and 1, but there are others")
        return {"f1": float(f1_score(references, predictions, zero_division=0.0))}
