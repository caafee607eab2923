"""Reading what a judge decided out of what it wrote. What is not clear is no verdict; nothing here is a guess."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from zipeft.text.thoughts import without_thoughts

FIRST, SECOND, TIE = "first", "second", "tie"
LOWEST, HIGHEST = 0, 10
"""The scale of scores. Judges are told that it begins at 1, and give 0 where there is no answer."""

LONGEST = 1000
"""Characters of a line that are looked at. No verdict is longer; some expressions and characters take ages for more."""


class Verdict(NamedTuple):
    """Which of the two answers is better, by the place at which it was shown, and the scores if there are any."""

    winner: str
    scores: tuple[float, float] | None = None


def _lines(text: str) -> list[str]:
    """Return the lines of a review that are not empty, without the thoughts before it and without markdown."""
    plain = (_plain(line[:LONGEST]).strip() for line in without_thoughts(text).splitlines())
    return [line for line in plain if line]


def _plain(line: str) -> str:
    """Return a line without markdown, and with one form for each character."""
    line = unicodedata.normalize("NFKC", line)
    line = re.sub(r"[\u200b\u2060\ufeff\\]", "", line)
    return re.sub(r"[*_`#>~]", " ", line)


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

ANOTHER_PAIR = re.compile(rf"{SCORE}{BETWEEN}{SCORE}")

HEADING = re.compile(r"(?:the\s+)?(?:final\s+)?(?:scores?|ratings?)\s*:?", re.IGNORECASE)
"""A line behind which scores stand at the end of a review."""

BULLET = re.compile(r"^[-+\u2022]\s+")

LEAD_IN = re.compile(r"\D*:\s*|\s*(?:scores?|ratings?|evaluation|review)\s*", re.IGNORECASE)
"""A line before the scores that says that they follow."""


def read_scores(text: str) -> Verdict | None:
    """Return the verdict of a review whose first line holds the scores of both answers.

    The higher one wins, equal ones are a tie. Blank lines, markdown, one line that introduces the scores, and text
    after them do not matter; scores with the names of the assistants may stand on two lines. Without any at the
    beginning, those count that end the review, below a heading. ``None`` is for all else, and where another line holds
    other scores and nothing else.
    """
    lines = [BULLET.sub("", line) for line in _lines(text)]
    if len(lines) > 1 and LEAD_IN.fullmatch(lines[0]):
        lines.pop(0)
    scores = _two_scores(*lines[:2]) or _closing_scores(lines)
    if scores is None or not all(LOWEST <= score <= HIGHEST for score in scores):
        return None
    if any(score != scores[place] for line in lines for place, score in _stated(line)):
        return None
    first, second = scores
    return Verdict(TIE if first == second else FIRST if first > second else SECOND, scores)


def _two_scores(line: str = "", following: str = "") -> tuple[float, float] | None:
    if match := DECIMAL_COMMAS.fullmatch(line) or PLAIN.match(line):
        return None if ANOTHER_PAIR.search(line, match.end()) else _pair(match)
    if not (one := LABELLED.match(line)):
        return None
    rest = re.sub(r"^[\s).,;|&\]]*(?:and\s+)?", "", line[one.end() :])
    if other := LABELLED.match(rest) or LABELLED.match(following):
        scores = dict(map(_labelled, (one, other)))
        return (scores[0], scores[1]) if len(scores) == 2 else None
    return None


def _closing_scores(lines: list[str]) -> tuple[float, float] | None:
    for number in (1, 2):
        if len(lines) > number and HEADING.fullmatch(lines[-number - 1]):
            return _two_scores(*lines[-number:])
    return None


def _stated(line: str) -> list[tuple[int, float]]:
    """Return places and scores of a line that holds nothing else."""
    line = line.rstrip(" .,;")
    if match := DECIMAL_COMMAS.fullmatch(line) or PLAIN.fullmatch(line):
        return list(enumerate(_pair(match)))
    match = LABELLED.fullmatch(line)
    return [_labelled(match)] if match else []


def _pair(match: re.Match[str]) -> tuple[float, float]:
    first, second = (float(score.replace(",", ".")) for score in match.groups())
    return first, second


def _labelled(match: re.Match[str]) -> tuple[int, float]:
    return "12ab".index(match[1].lower()) % 2, float(match[2])


# --- a mark -----------------------------------------------------------------------------------------------------------

MARK = re.compile(r"\[\[\s*(?:assistant\s+)?(a|b|c|tie)\s*\]\]", re.IGNORECASE)
WINNERS = {"a": FIRST, "b": SECOND, "c": TIE, "tie": TIE}

FILLER = re.compile(
    r"\b(?:so|therefore|thus|hence|my|the|final|overall|verdict|decision|judge?ment|conclusion|winner|answer|choice|is|"
    r"boxed|or|and)\b",
    re.IGNORECASE,
)
"""Words that may stand beside marks on a line of theirs: "My final verdict is: [[A]]", "[[A]] or [[B]]"."""

UNFINISHED = re.compile(r"(\b(?:or|and)|,)\n", re.IGNORECASE)
"""The end of a line that goes on in the next."""


def read_mark(text: str) -> Verdict | None:
    """Return the verdict of a review that ends with [[A]], [[B]] or, for a tie, [[C]].

    Marks count that have a line of their own, as judges are told. Those within sentences may be quoted, considered or
    explained. Returns ``None`` if none counts, or if different ones do.
    """
    lines = UNFINISHED.sub(r"\1 ", "\n".join(_lines(text))).splitlines()
    winners = {winner for line in lines for winner in _own_marks(line)}
    return Verdict(winners.pop()) if len(winners) == 1 else None


def _own_marks(line: str) -> list[str]:
    """Return the winners by the marks of a line that holds nothing else."""
    if "?" in line or re.search(r"\w", FILLER.sub("", MARK.sub("", line))):
        return []
    return [WINNERS[mark.lower()] for mark in MARK.findall(line)]
