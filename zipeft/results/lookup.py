"""Looking a record up by the beginning of its id, or by the place where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zipeft.errors import UserError
from zipeft.formatting import listing
from zipeft.results import archive
from zipeft.results.archive import Line
from zipeft.results.reading import Place, places, read_record
from zipeft.results.record import Record

LEAST = 4
"""Digits of an id that tell it from most others."""

MOST_NAMED = 5


def look_up(text: str, root: Path) -> tuple[Place, Record]:
    """Return a record and its place: ``text`` is a file, "FILE.jsonl:LINE", or the beginning of an id in ``root``.

    Raises ``UserError`` where there is none, or more than one, and for one that is not valid.
    """
    place = _named(text) or _only(text, root)
    try:
        return place, read_record(place)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _named(text: str) -> Place | None:
    """Return the place that a text names, if it names one."""
    found = re.fullmatch(rf"(.+{re.escape(archive.SUFFIX)}):(\d+)", text)
    if found and int(found[2]):
        return Line(Path(found[1]), int(found[2]))
    if text.endswith(archive.SUFFIX):
        raise UserError(f"{text} holds many records: name one by its line, as {text}:1, or by its id")
    return Path(text) if text.endswith(".json") else None


def _only(id: str, root: Path) -> Place:
    if not re.fullmatch(f"[0-9a-f]{{{LEAST},}}", id):
        raise UserError(f"{id} is neither a file (*.json, *.jsonl:LINE) nor the beginning of an id ({LEAST} digits)")
    if not root.exists():
        raise UserError(f"no such file or folder: {root}; say by --results where records are")
    found = list(_with_id(id, root))
    if not found:
        raise UserError(f"no record in {root} has an id that begins with {id}; say by --results where records are")
    if len(found) > 1:
        named = listing([str(place) for place in found[:MOST_NAMED]])
        raise UserError(f"{len(found)} records have an id that begins with {id}: give more of it, or name one: {named}")
    return found[0]


def _with_id(id: str, root: Path) -> Iterator[Place]:
    """Yield the places whose file, or whose line, says that it holds a record with an id that begins so."""
    heads = {}
    for place in places([root]):
        if isinstance(place, Line):
            if place.archive not in heads:
                heads[place.archive] = {head.line: head.id for head in archive.heads(place.archive)}
            found = heads[place.archive][place]
        else:
            found = place.stem.rpartition("-")[2]
        if found.startswith(id):
            yield place
