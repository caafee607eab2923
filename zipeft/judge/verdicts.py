"""Reading what a judge decided out of what it wrote. What is not clear is no verdict; nothing here is a guess."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

FIRST, SECOND, TIE = "first", "second", "tie"
LOWEST, HIGHEST = 1, 10
"""The scale of scores."""


class Verdict(NamedTuple):
    """Which of the two answers is better, by the place at which it was shown, and the scores if there are any."""

    winner: str
    scores: tuple[float, float] | None = None


# --- two scores -------------------------------------------------------------------------------------------------------

END = r"(?![\w%/]|\.\d|\s*[/%]|\s+out\s+of)"
"""Nothing may follow a number that makes it another one, or one on another scale."""

SCORE = rf"(\d+(?:\.\d+)?)(?:\s*/\s*10|\s+out\s+of\s+10)?{END}"
BETWEEN = r"(?:\s*(?:[,;|&]|\band\b|\bvs\b\.?)\s*|\s+)"

PLAIN = re.compile(
    rf"[\[(]?\s*(?:(?:the\s+)?(?:scores?|ratings?)\b[^\d\n]{{0,60}}[:=]\s*)?{SCORE}{BETWEEN}{SCORE}(?!{BETWEEN}\d)",
    re.IGNORECASE,
)
"""Two scores, and no third number right after them: "8 9", "8, 9", "8/10 9/10", "Scores: 8 and 9"."""

DECIMAL_COMMAS = re.compile(r"(\d+(?:,\d+)?)\s+(\d+(?:,\d+)?)\s*")
"""A line of nothing but two scores: "8,5 9"."""

LABELLED = re.compile(
    r"(?:scores?\s+(?:of|for)\s+)?(?:the\s+)?(?:assistant|answer|response|score)\s*#?([12ab])\b(?:'s\s+score|\s+score)?"
    rf"\s*(?:[:=(]|[-\u2013\u2014]\s|\bis\b|\bgets\b)?\s*{SCORE}(?=\s*(?:$|[^\w\s+-]|[-\u2013\u2014]\s|and\b|assistant\b))(?!,\d)",
    re.IGNORECASE,
)
"""One score with its owner: "Assistant 1: 8", "Score of answer B (9/10)"."""

LEAD_IN = re.compile(r"\D*:\s*|\s*(?:scores?|ratings?|evaluation|review)\s*", re.IGNORECASE)
"""A line before the scores that says that they follow."""


def read_scores(text: str) -> Verdict | None:
    """Return the verdict of a review whose first line holds the scores of both answers, from 1 to 10.

    The higher one wins, equal ones are a tie. Blank lines, markdown, one line that introduces the scores, and text
    after them do not matter; scores with the names of the assistants may stand on two lines. ``None`` is for all else.
    """
    lines = [re.sub(r"^[-+\u2022]\s+", "", line.strip()) for line in _plain(text).splitlines() if line.strip()]
    if len(lines) > 1 and LEAD_IN.fullmatch(lines[0]):
        lines.pop(0)
    scores = _two_scores(*lines[:2])
    if scores is None or not all(LOWEST <= score <= HIGHEST for score in scores):
        return None
    first, second = scores
    return Verdict(TIE if first == second else FIRST if first > second else SECOND, scores)


def _two_scores(line: str = "", following: str = "") -> tuple[float, float] | None:
    if match := DECIMAL_COMMAS.fullmatch(line) or PLAIN.match(line):
        first, second = (float(score.replace(",", ".")) for score in match.groups())
        return first, second
    if not (one := LABELLED.match(line)):
        return None
    rest = re.sub(r"^[\s).,;|&\]]*(?:and\s+)?", "", line[one.end() :])
    if other := LABELLED.match(rest) or LABELLED.match(following):
        scores = {"12ab".index(match[1].lower()) % 2: float(match[2]) for match in (one, other)}
        return (scores[0], scores[1]) if len(scores) == 2 else None
    return None


# --- a mark -----------------------------------------------------------------------------------------------------------

MARK = re.compile(r"\[\[\s*(?:assistant\s+)?(a|b|c|tie)\s*\]\]", re.IGNORECASE)
WINNERS = {"a": FIRST, "b": SECOND, "c": TIE, "tie": TIE}


def read_mark(text: str) -> Verdict | None:
    """Return the verdict of a review that ends with [[A]], [[B]] or, for a tie, [[C]].

    The last line that has marks counts. Returns ``None`` if none has, or if that one has different ones, as it has
    where a judge repeats what it was told.
    """
    for line in reversed(_plain(text).splitlines()):
        winners = {WINNERS[mark.lower()] for mark in MARK.findall(line)}
        if winners:
            return Verdict(winners.pop()) if len(winners) == 1 else None
    return None


# --- both -------------------------------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Return a review without the thoughts before it, without markdown, and with one form for each character."""
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    elif text.lstrip().startswith("<think>"):  # it was cut off while it thought
        return ""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"[\u200b\u2060\ufeff\\]", "", text)
    return re.sub(r"[*_`#>~]", " ", text)
