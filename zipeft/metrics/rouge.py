"""ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from datasets import Value

from zipeft.metrics.base import Metric


class RougeL(Metric):
    """``rouge_l``, 0 to 1: the mean over answers of the ROUGE-L with that reference with which it is highest."""

    prediction = Value("string")
    reference: ClassVar = [Value("string")]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        scores = [
            max(rouge_l(prediction, gold) for gold in golds or ("",))
            for prediction, golds in zip(predictions, references, strict=True)
        ]
        return {"rouge_l": sum(scores) / len(scores)}


def words(text: str) -> list[str]:
    """Return the words that are compared: lower case, of letters a to z and digits, as ROUGE's common packages have it.

    Of a text without any, as in other scripts, all that stands between white space.
    """
    lower = text.lower()
    return re.findall("[a-z0-9]+", lower) or lower.split()


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of precision and recall by the longest common subsequence of words."""
    given, wanted = words(answer), words(reference)
    if not given or not wanted:
        return float(given == wanted)
    return 2 * _longest_common_subsequence(given, wanted) / (len(given) + len(wanted))


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for index, other in enumerate(b, start=1):
            above = row[index]
            row[index] = diagonal + 1 if word == other else max(above, row[index - 1])
            diagonal = above
    return row[-1]
