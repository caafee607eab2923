"""The file of a judge's replies: each is written as it arrives, and none is asked for twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from zipeft.json_lines import JsonLines


class Journal:
    """Replies by the keys of their requests, each a line of ``zipeft.json_lines``; to be used as a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, Mapping[str, Any]] = {}
        self._lines = JsonLines(path, "judge's reply", b'{"key": "', self._take)

    def __enter__(self) -> Journal:
        self._lines.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.__exit__(kind, error, trace)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a reply; ``record`` holds it as ``reply`` beside whatever else is to be known of it."""
        entry = {"key": key, **record}
        self._lines.add([entry])
        self.replies[key] = entry

    def _take(self, record: Mapping[str, Any], place: str) -> None:
        key, reply = record.get("key"), record.get("reply")
        if not (isinstance(key, str) and isinstance(reply, str)):
            raise self._lines.foreign(place)
        self.replies[key] = record
