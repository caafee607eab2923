"""The file of a judge's replies: each is written as it arrives, and none is asked for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from zipeft.json_lines import JsonLines
from zipeft.judge.replies import COMPLETE

LIMIT = "max_tokens"
"""The field of a request that cuts a reply and does not change it."""


def key_of(request: Mapping[str, Any]) -> str:
    """Return the hash of a request: of model, settings, and the prompt with its words, the question and the answers."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class Journal:
    """Replies by the keys of their requests, each a line of ``zipeft.json_lines``; to be used as a context.

    With ``retry`` what was not answered counts as not asked, so that it is asked again.
    """

    def __init__(self, path: Path, retry: bool = False) -> None:
        self.path, self.retry = path, retry
        self.replies: dict[str, Mapping[str, Any]] = {}
        self._limits: dict[int | None, None] = {}
        self._lines = JsonLines(path, "judge's reply", b'{"key": "', self._take)

    def __enter__(self) -> Journal:
        self._lines.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.__exit__(kind, error, trace)

    def reply(self, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the reply to a request, or to the same one with another limit of tokens that would have got it too."""
        if found := self.replies.get(key_of(request)):
            return found
        for limit in self._limits:
            other = {name: value for name, value in request.items() if name != LIMIT}
            found = self.replies.get(key_of(other if limit is None else other | {LIMIT: limit}))
            if found and found["reply"] and _fits(found, request.get(LIMIT)):
                return found
        return None

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep a reply; ``record`` holds it as ``reply`` beside whatever else is to be known of it."""
        entry = {"key": key, **record}
        self._lines.add([entry])
        self._keep(entry)

    def _take(self, record: Mapping[str, Any], place: str) -> None:
        key, reply = record.get("key"), record.get("reply")
        if not (isinstance(key, str) and isinstance(reply, str)):
            raise self._lines.foreign(place)
        if reply or not self.retry:
            self._keep(record)

    def _keep(self, record: Mapping[str, Any]) -> None:
        self.replies[record["key"]] = record
        limit = record.get(LIMIT)
        if limit is None or (isinstance(limit, int) and not isinstance(limit, bool)):
            self._limits[limit] = None


def _fits(record: Mapping[str, Any], limit: int | None) -> bool:
    """Whether a reply would be the same with this limit: whether it came to its own end, and below the limit."""
    own, tokens = record.get(LIMIT), record.get("completion_tokens")
    if record.get("finish_reason") != COMPLETE:
        return False
    if limit is None or (isinstance(own, int) and own <= limit):
        return True
    return isinstance(tokens, int) and tokens <= limit
