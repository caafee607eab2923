"""Matthews' correlation."""

from __future__ import annotations

from datasets import Value
from sklearn.metrics import matthews_corrcoef

from zipeft.metrics.base import Metric


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
