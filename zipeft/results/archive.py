"""Archives: the records of one data set in one file of JSON lines, a record a line, in the order of their ids.

``icons.jsonl`` holds what the folder ``icons`` beside it held. New records are written into the folder, one file each;
such a file takes the place of the archive's line of the same kind and id.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from zipeft import strict_json
from zipeft.errors import UserError, one_line
from zipeft.files import open_file, write_atomically

SUFFIX = ".jsonl"


@dataclass(frozen=True, order=True)
class Line:
    """The place of a record in an archive; lines are counted from 1."""

    archive: Path
    number: int

    def __str__(self) -> str:
        return f"{self.archive}, line {self.number}"


class Head(NamedTuple):
    """What a line says of its record, unchecked; "" where it does not say it. One without a kind, as in schema 1, is
    a run."""

    line: Line
    kind: str
    id: str
    method: str
    created: str


def archive_of(folder: Path) -> Path:
    """Return the archive of a data set's folder."""
    return folder.with_name(folder.name + SUFFIX)


def folder_of(archive: Path) -> Path:
    """Return the data set's folder of an archive."""
    return archive.with_name(archive.name.removesuffix(SUFFIX))


class Heads:
    """The heads of an archive's lines, to be found by kind and id."""

    def __init__(self, heads: Iterable[Head]) -> None:
        self._by_kind: dict[str, dict[str, list[Head]]] = defaultdict(lambda: defaultdict(list))
        for head in heads:
            self._by_kind[head.kind][head.id].append(head)

    def all(self, kind: str) -> list[Head]:
        """Return those of a kind."""
        return [head for same in self._by_kind.get(kind, {}).values() for head in same]

    def of(self, kind: str, id: str) -> Sequence[Head]:
        """Return those of a record: one, but in a file that was edited."""
        return self._by_kind.get(kind, {}).get(id, ())

    def __iter__(self) -> Iterator[Head]:
        """Yield all in the order of their lines."""
        return iter(sorted(head for kind in self._by_kind for head in self.all(kind)))


def heads(archive: Path) -> Heads:
    """Return the head of every line. Raises ``OSError`` for a file that cannot be read."""
    return _index(archive, *_stamp(archive.stat())).heads


def read_line(line: Line) -> Any:
    """Return the JSON of a line. Raises ``OSError`` and ``UserError``, the latter without the line's place."""
    with open_file(line.archive) as file:
        starts = _index(line.archive, *_stamp(os.fstat(file.fileno()))).starts
        if line.number > len(starts):
            raise UserError("is no longer there; run again")
        file.seek(starts[line.number - 1])
        text = file.readline()
    try:
        return strict_json.parse(text)
    except ValueError as error:
        raise UserError(f"not JSON ({one_line(error)}); delete the line and run again") from error


def write_archive(archive: Path, contents: Mapping[tuple[str, str], Any]) -> None:
    """Write the contents of records, by their ids and kinds. Raises ``CannotWrite``."""
    lines = [json.dumps(contents[key], allow_nan=False) + "\n" for key in sorted(contents)]
    write_atomically(archive, "".join(lines).encode())


# A sweep looks into an archive for each of its records: it is read again only when it was written again.


class _Index(NamedTuple):
    starts: array[int]
    """Where each line starts: the lines themselves may be more than memory has room for."""
    heads: Heads


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _index(archive: Path, *stamp: int) -> _Index:
    starts, found, at = array("q"), [], 0
    with open_file(archive) as file:
        for number, text in enumerate(file, start=1):
            starts.append(at)
            at += len(text)
            if text.strip():
                found.append(_head(Line(archive, number), text))
    return _Index(starts, Heads(found))


def _head(line: Line, text: bytes) -> Head:
    try:
        content = strict_json.parse(text)
    except ValueError:
        content = None
    kind, method = _text(content, "kind") or "run", _text(content, "method", "name")
    return Head(line, kind, _text(content, "id"), method, _text(content, "created"))


def _text(value: Any, *keys: str) -> str:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""
