"""SQuAD's exact match and F1 over all questions."""

from __future__ import annotations

from typing import ClassVar

from datasets import Value

from zipeft.metrics.answers import best_exact_match, best_f1
from zipeft.metrics.base import Metric


class SquadMetric(Metric):
    """``exact_match`` and ``f1``, 0 to 1: the means over questions of the best that an answer reaches on gold answers.

    A prediction is a text, empty for no answer; a reference is the list of gold answers, empty where there is none. See
    ``zipeft.metrics.answers`` for the score of one question.
    """

    prediction = Value("string")
    reference: ClassVar = [Value("string")]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        return {
            "exact_match": sum(best_exact_match(*pair) for pair in pairs) / len(pairs),
            "f1": sum(best_f1(*pair) for pair in pairs) / len(pairs),
        }
