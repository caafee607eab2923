"""A file of JSON lines that grows while something long goes on, and that loses nothing when it is cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from zipeft import locks, strict_json
from zipeft.errors import UserError
from zipeft.files import check_target, read_whole

Record = Mapping[str, Any]


class JsonLines:
    """The file; to be used as a context, within which no other process may write it.

    What is in it already is handed to ``take`` when it is opened. A last line that was cut off while it was written is
    removed then. Raises ``UserError`` for a file that holds anything else, or cannot be written.

    Args:
        path: of the file.
        kind: what a line is, for messages: "answer".
        start: how each line begins, which tells a line that was cut off from one that something else wrote.
        take: is called with each record and its place; raises ``UserError`` for one that does not belong here.
    """

    def __init__(self, path: Path, kind: str, start: bytes, take: Callable[[Record, str], None]) -> None:
        self.path, self.kind, self.start, self.take = path, kind, start, take

    def __enter__(self) -> JsonLines:
        check_target(self.path)
        try:
            file = Path(os.path.realpath(self.path))  # which may have several names
            lock = locks.take(file.parent / f".{file.name}.lock")
        except OSError as error:
            raise self._unwritable(error) from None
        if not lock:
            raise UserError(f"{self.path} is in use by another process: wait for it, or give another --out")
        self._lock = lock
        try:
            self._open()
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._lock.release()

    def add(self, records: Iterable[Record]) -> None:
        """Write records, one a line; they are on disk when this returns."""
        # Half of a surrogate pair, which a model may give, is no character to write.
        lines = [json.dumps(record, ensure_ascii=False).encode(errors="replace") + b"\n" for record in records]
        try:
            self._write(b"".join(lines))
        except OSError as error:
            raise self._unwritable(error) from None

    def foreign(self, place: str) -> UserError:
        """Return the error for a line that is of another kind."""
        return UserError(f"{place} is no {self.kind}: give another --out, or repair the line")

    def _open(self) -> None:
        content = read_whole(self.path) if self.path.exists() else b""
        *lines, rest = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._read(line, number)
        size, ending = len(content), b""
        if rest and _record(rest) is None and (rest.startswith(self.start) or self.start.startswith(rest)):
            size -= len(rest)
        elif rest:  # whole, but for its line break
            self._read(rest, len(lines) + 1)
            ending = b"\n"
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115, the context closes it
        self._file.truncate(size)
        self._write(ending)

    def _read(self, line: bytes, number: int) -> None:
        record, place = _record(line), f"{self.path}, line {number}"
        if record is None:
            raise self.foreign(place)
        self.take(record, place)

    def _write(self, content: bytes) -> None:
        while content:
            content = content[self._file.write(content) :]
        os.fsync(self._file.fileno())

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path} ({error.strerror or error}): {locks.advice(error)}")


def _record(line: bytes) -> Record | None:
    try:
        record = strict_json.parse(line.decode())
    except ValueError:
        return None
    return record if isinstance(record, Mapping) else None
