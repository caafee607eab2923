"""Typed spans in sequences of tags: BIO, IOB1 and IOBES, read alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zipeft.errors import UserError

OUTSIDE = "O"


class Span(NamedTuple):
    """The words ``start`` to ``end``, the latter not included, and what they are."""

    start: int
    end: int
    kind: str


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans in the tags of a sequence, in order.

    A tag is "O" or says where in a span a word is (B, I, E for its end, S for alone) and of what kind, as in "B-PER". A
    word goes on with the span of the word before if it is I or E, that is B or I, and both are of one kind; else it
    begins a span of its own. So CoNLL's scorer, conlleval, reads B, I and O (it knows neither S nor an E after B), and
    seqeval all of the tags, in sequences that keep to no scheme, too: what a model predicts needs no repair. Raises
    ``UserError`` for any other tag.
    """
    for tag in set(tags):
        _check(tag)
    found: list[Span] = []
    before = OUTSIDE
    for at, tag in enumerate(tags):
        if tag[0] in "IE" and before[0] in "BI" and tag[2:] == before[2:]:
            found[-1] = Span(found[-1].start, at + 1, found[-1].kind)
        elif tag != OUTSIDE:
            found.append(Span(at, at + 1, tag[2:]))
        before = tag
    return found


def _check(tag: str) -> None:
    if tag != OUTSIDE and (tag[:1] not in ("B", "I", "E", "S") or tag[1:2] not in ("", "-")):
        raise UserError(f"{tag!r} is no tag of a span: write O, or B-, I-, E- or S- and a kind, such as B-PER")
