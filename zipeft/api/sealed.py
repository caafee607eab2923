"""The test lock: a run gets the test data once, after everything that it chooses is chosen.

A data set's test split is sealed from the moment it is made. A run opens it with a ``TestKey``, which works once, and
not before ``chosen`` was called on it. While anything trains or is tested, no key opens anything. The lock guards
against mistakes and against cheating by the means that a plug-in has; Python offers no wall against code that searches
the memory of its own process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, NoReturn

from zipeft.errors import UserError


class TestLocked(UserError):
    """The test data were asked for at a time or in a way that would make the comparison dishonest."""

    __test__ = False  # no test class, whatever pytest makes of its name


class TestKey:
    """The right of one run to one look at each test split. ``run`` says whose, for messages."""

    __test__ = False

    def __init__(self, run: str) -> None:
        self.run, self.choice = run, ""
        self.used: set[str] = set()

    def chosen(self, choice: str) -> None:
        """Say that the run is settled (its setting, its epoch): from now on the key opens."""
        if self.choice:
            raise TestLocked(f"{self.run}: its choice is made already ({self.choice}) and cannot be made again")
        self.choice = choice


class SealedSplit:
    """A test split of which only the size can be seen until a key opens it."""

    def __init__(self, name: str, split: Sized) -> None:
        self._name, self._size = name, len(split)
        self._reveal: Callable[[], Any] = lambda: split  # a closure: no attribute leads to examples or labels

    def __len__(self) -> int:
        return self._size

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):  # what copy, pickle and the like look for
            raise AttributeError(attribute)
        raise TestLocked(f"the test data of {self._name} are sealed: .{attribute} needs a run's key, after its choice")

    def map(self, read: Callable[[Any], Any]) -> SealedSplit:
        """Return what ``read`` makes of the split, sealed under the same name: encoded examples, say.

        It is made at once, so that what is broken in the data shows before anything trains. Raises ``TestLocked``
        during training.
        """
        if _training:
            raise TestLocked(f"the test data of {self._name} were asked for during training or testing")
        return SealedSplit(self._name, read(self._reveal()))

    def open(self, key: TestKey) -> Any:
        """Hand out the split.

        Raises: ``TestLocked`` during training or testing, before the run's choice, and the second time.
        """
        if _training:
            raise TestLocked(f"{key.run}: the test data of {self._name} were asked for during training or testing")
        if not key.choice:
            raise TestLocked(f"{key.run}: the test data of {self._name} were asked for before the choice was made")
        if self._name in key.used:
            raise TestLocked(f"{key.run}: the test data of {self._name} were asked for a second time")
        key.used.add(self._name)
        return self._reveal()


_training: list[str] = []


@contextmanager
def training(what: str) -> Iterator[None]:
    """Keep every test split of this process shut as long as this context lasts: a method's code runs in it."""
    _training.append(what)
    try:
        yield
    finally:
        _training.remove(what)
