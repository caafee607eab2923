"""How one answer to a question is scored, by the rules of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1).

Where there is no answer, on either side, it is the empty string, as in SQuAD 2.0 (Rajpurkar et al. 2018, arXiv
1806.03822).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

PUNCTUATION = str.maketrans("", "", string.punctuation)
"""Deletes the punctuation of ASCII and, as the scripts of both versions of SQuAD, no other."""

ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@lru_cache(maxsize=2**12)  # an answer is compared with several gold answers, and by two scores
def normalised(answer: str) -> str:
    """Return an answer in lower case, without punctuation and articles, with one space between words.

    Punctuation goes first: "U.S." becomes "us", and "well-known" one word.
    """
    return one_spaced(without_articles(without_punctuation(answer.lower())))


def without_punctuation(text: str) -> str:
    return text.translate(PUNCTUATION)


def without_articles(text: str) -> str:
    return ARTICLES.sub(" ", text)


def one_spaced(text: str) -> str:
    return " ".join(text.split())


def exact_match(prediction: str, gold: str) -> float:
    """Return 1.0 if both answers are the same once normalised, else 0.0."""
    return float(normalised(prediction) == normalised(gold))


def f1(prediction: str, gold: str) -> float:
    """Return the F1 of the words of an answer, each counted as often as it occurs.

    If nothing is left of one of the answers, it is 1.0 if nothing is left of both, else 0.0.
    """
    predicted, right = normalised(prediction).split(), normalised(gold).split()
    if not predicted or not right:
        return float(predicted == right)
    shared = (Counter(predicted) & Counter(right)).total()
    return 2 * shared / (len(predicted) + len(right))


def best_exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return the exact match with that gold answer with which it is highest; without any, with the empty answer."""
    return _best(exact_match, prediction, golds)


def best_f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the F1 against that gold answer with which it is highest; without any, against the empty answer."""
    return _best(f1, prediction, golds)


def _best(score: Callable[[str, str], float], prediction: str, golds: Sequence[str]) -> float:
    return max(score(prediction, gold) for gold in golds or ("",))
