"""Exact match of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from datasets import Value

from zipeft.metrics.answers import one_spaced, without_articles, without_punctuation
from zipeft.metrics.base import Metric


class ExactMatch(Metric):
    """``exact_match``, 0 to 1: the part of answers that are one of their references, normalised as SQuAD does.

    Unlike in SQuAD, where nothing is left of "the", an answer never becomes the empty one: see ``plain``.
    """

    prediction = Value("string")
    reference: ClassVar = [Value("string")]

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        pairs = zip(predictions, references, strict=True)
        return {"exact_match": sum(matches_one(*pair) for pair in pairs) / len(predictions)}


def matches_one(answer: str, references: Sequence[str]) -> bool:
    """Whether an answer is one of its references; without any, whether it is empty."""
    return plain(answer) in map(plain, references or ("",))


def plain(answer: str) -> str:
    """Return an answer in lower case, without punctuation and articles, with one space between words.

    Of an answer that is nothing else ("A" of several options, "+" of several signs) they are kept.
    """
    text = answer.lower()
    for shortened in (without_punctuation, without_articles):
        text = shortened(text) if shortened(text).strip() else text
    return one_spaced(text)
