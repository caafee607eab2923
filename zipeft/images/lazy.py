"""Sequences whose items are made when they are asked for: a data set of images that is larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lazy(Sequence[Any]):
    """Items that are made by ``make(key)`` when they are asked for, one a key; none is kept.

    Give a function that can be pickled, such as a ``partial`` of one: where processes are not forked, those that read
    data get it so.
    """

    make: Callable[[Any], Any]
    keys: Sequence[Any]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Lazy(self.make, self.keys[index])
        return self.make(self.keys[index])
