"""Archives: the records of one data set in one file of JSON lines, a record a line, in the order of their ids.

``icons.jsonl`` holds what the folder ``icons`` beside it held. New records are written into the folder, one file each;
such a file takes the place of the archive's line of the same kind and id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from zipeft import strict_json
from zipeft.errors import UserError, one_line
from zipeft.files import read_whole, write_atomically

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


def heads(archive: Path) -> tuple[Head, ...]:
    """Return the head of every line. Raises ``OSError`` for a file that cannot be read."""
    status = archive.stat()
    return _heads(archive, status.st_ino, status.st_mtime_ns, status.st_size)


def read_line(line: Line) -> Any:
    """Return the JSON of a line. Raises ``OSError`` and ``UserError``, the latter without the line's place."""
    status = line.archive.stat()
    lines = _lines(line.archive, status.st_ino, status.st_mtime_ns, status.st_size)
    if line.number > len(lines):
        raise UserError("is no longer there; run again")
    try:
        return strict_json.parse(lines[line.number - 1])
    except ValueError as error:
        raise UserError(f"not JSON ({one_line(error)}); delete the line and run again") from error


def write_archive(archive: Path, contents: Mapping[tuple[str, str], Any]) -> None:
    """Write the contents of records, by their ids and kinds. Raises ``CannotWrite``."""
    lines = [json.dumps(contents[key], allow_nan=False) + "\n" for key in sorted(contents)]
    write_atomically(archive, "".join(lines).encode())


# A sweep looks into an archive for each of its records: it is read again only when it was written again.


@lru_cache(maxsize=64)
def _lines(archive: Path, *stamp: int) -> tuple[bytes, ...]:
    return tuple(read_whole(archive).splitlines())


@lru_cache(maxsize=64)
def _heads(archive: Path, *stamp: int) -> tuple[Head, ...]:
    return tuple(_each_head(archive, _lines(archive, *stamp)))


def _each_head(archive: Path, lines: tuple[bytes, ...]) -> Iterator[Head]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _head(Line(archive, number), line)


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
