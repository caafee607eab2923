"""The file of a judge's replies: each is written as it arrives, and none is asked for twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from zipeft.errors import UserError

START = b'{"key": "'
"""How each line begins."""


class Journal:
    """Replies by the keys of their requests; to be used as a context, within which no other process may write the file.

    Each reply is a line of JSON, on disk before ``add`` returns. A last line that was cut off while it was written is
    removed when the file is opened. Raises ``UserError`` for a file that holds anything else, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path.parent / f".{self.path.name}.lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} is in use by another zipeft judge: wait for it, or give another --out"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from None
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

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a reply; ``record`` holds it as ``reply`` beside whatever else is to be known of it."""
        entry = {"key": key, **record}
        try:  # half of a surrogate pair, which a judge may send, is no character to write
            self._write(json.dumps(entry, ensure_ascii=False).encode(errors="replace") + b"\n")
        except OSError as error:
            raise self._unwritable(error) from None
        self.replies[key] = entry

    def _open(self) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, rest = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._take(line, number)
        size, ending = len(content), b""
        if rest:
            try:
                self._take(rest, len(lines) + 1)
                ending = b"\n"
            except UserError:
                if not (rest.startswith(START) or START.startswith(rest)):  # then it is not of this class's writing
                    raise
                size -= len(rest)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115, the context closes it
        self._file.truncate(size)
        self._write(ending)

    def _take(self, line: bytes, number: int) -> None:
        try:
            record = json.loads(line.decode())
            key, reply = record["key"], record["reply"]
        except (ValueError, RecursionError, LookupError, TypeError):
            key = reply = None
        if not (isinstance(key, str) and isinstance(reply, str)):
            raise UserError(f"{self.path}, line {number} is no judge's reply: give another --out, or repair the line")
        self.replies[key] = record

    def _write(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]
        os.fsync(self._file.fileno())

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path} ({error.strerror or error}): choose a file that can be written")
