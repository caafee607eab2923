"""ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from itertools import groupby
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


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of precision and recall by the longest common subsequence of words."""
    given, wanted = words_of_both(answer, reference)
    if not given or not wanted:
        return float(given == wanted)
    return 2 * _longest_common_subsequence(given, wanted) / (len(given) + len(wanted))


def words_of_both(one: str, other: str) -> tuple[list[str], list[str]]:
    """Return the words of two texts that are compared, by a rule for both of them.

    Where all letters are of ASCII, words are those of ROUGE's common packages: lower case, of letters a to z and
    digits. Else they are of all letters, marks and digits of Unicode, and what is written without spaces (Chinese,
    Japanese, Thai, ...) is taken apart into characters, but for a run of them that both texts have, which is a word.

    Of a text without any word, such as "+", all that stands between white space.
    """
    if _all_ascii(one) and _all_ascii(other):
        given, wanted = (re.findall("[a-z0-9]+", text.lower()) for text in (one, other))
    else:
        runs, others = _runs(one), _runs(other)
        shared = set(runs) & set(others)
        given, wanted = ([word for run in some for word in _parts(run, shared)] for some in (runs, others))
    return given or one.lower().split(), wanted or other.lower().split()


UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u109f"  # Tibetan, Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u30ff\u31f0-\u31ff"  # Japanese syllables
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
    "]"
)
"""Characters of scripts that put no space between words."""


def _all_ascii(text: str) -> bool:
    return text.isascii() or all(letter.isascii() for letter in text if letter.isalpha() or letter.isdecimal())


def _runs(text: str) -> list[str]:
    """Return what stands together of letters, marks and digits, of spaced and unspaced scripts apart."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    return ["".join(run) for kind, run in groupby(normal, key=_kind) if kind]


def _kind(character: str) -> str:
    if unicodedata.category(character)[0] not in "LMN":
        return ""
    return "unspaced" if UNSPACED.match(character) else "spaced"


def _parts(run: str, shared: Collection[str]) -> Sequence[str]:
    """Return a run as words: itself, or its characters."""
    return [run] if run in shared or not UNSPACED.match(run) else list(run)


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for index, other in enumerate(b, start=1):
            above = row[index]
            row[index] = diagonal + 1 if word == other else max(above, row[index - 1])
            diagonal = above
    return row[-1]
