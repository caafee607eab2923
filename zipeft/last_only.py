"""Keeping what was made last, and nothing before it: what is large is in memory once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LastOnly(Generic[Key, Value]):
    """Makes values by their keys. Only the last one is kept, and not pickled: another process makes its own."""

    def __init__(self, make: Callable[[Key], Value]) -> None:
        self._make = make
        self._kept: tuple[Key, Value] | None = None

    def get(self, key: Key) -> Value:
        if self._kept is None or self._kept[0] != key:
            self.clear()  # before the next is made: there may be no room for both
            self._kept = key, self._make(key)
        return self._kept[1]

    def clear(self) -> None:
        self._kept = None

    def __getstate__(self) -> dict[str, object]:
        return {"_make": self._make, "_kept": None}
