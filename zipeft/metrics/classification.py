"""Scores of classes: accuracy, F1 of class 1, and Matthews' correlation."""

from __future__ import annotations

from datasets import Value
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from zipeft.metrics.base import Metric


class Accuracy(Metric):
    """``accuracy``: the part of the predicted classes that are right, 0 to 1."""

    prediction = reference = Value("int64")

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(references, predictions))}


class F1(Metric):
    """``f1``: the harmonic mean of precision and recall of class 1 of two classes, 0 to 1.

    It is 0 where class 1 is neither predicted nor right. Raises ``ValueError`` if there are more classes.
    """

    prediction = reference = Value("int64")

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        if not {*predictions, *references} <= {0, 1}:
            raise ValueError("F1 is of two classes, 0 and 1, but there are others")
        return {"f1": float(f1_score(references, predictions, zero_division=0.0))}


class Matthews(Metric):
    """``matthews``: the correlation of predicted and right classes, -1 to 1; of two classes or more.

    It is 0 where it is undefined: one class is all that is predicted, or all that is right.
    """

    prediction = reference = Value("int64")

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        # scikit-learn says 0 here too, but warns where predictions and references are of the same class.
        if len(set(predictions)) < 2 or len(set(references)) < 2:
            return {"matthews": 0.0}
        return {"matthews": float(matthews_corrcoef(references, predictions))}
