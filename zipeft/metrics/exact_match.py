"""Exact match of answers."""

from __future__ import annotations

from typing import ClassVar

from datasets import Value

from zipeft.metrics.answers import best_exact_match
from zipeft.metrics.base import Metric


class ExactMatch(Metric):
    """``exact_match``, 0 to 1: the part of answers that are one of their references, normalised as SQuAD does."""

    prediction = Value("string")
    reference: ClassVar = [Value("string")]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        return {"exact_match": sum(best_exact_match(*pair) for pair in pairs) / len(predictions)}
