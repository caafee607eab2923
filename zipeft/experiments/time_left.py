"""How long a sweep still takes: by what its trainings took so far, and by what earlier ones like them took."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

Kind = tuple[str, str, str, str]
"""What trainings share that take about as long: backbone, task, data set and method."""


@dataclass
class _Running:
    kind: Kind
    since: float
    share: float = 0.0


@dataclass
class _Mean:
    number: int = 0
    total: float = 0.0

    def add(self, value: float) -> None:
        self.number, self.total = self.number + 1, self.total + value

    @property
    def value(self) -> float:
        return self.total / self.number


class TimeLeft:
    """Trainings of known kinds that are still to be done, those that run, and the seconds that each kind takes.

    A kind takes the mean of what its trainings took here; else, of what earlier ones took that are on record; else as
    long as the others on average. While the first one runs, that is what its own steps let expect.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all: Counter[Kind] = Counter()
        self._left: Counter[Kind] = Counter()
        self._here: dict[Kind, _Mean] = defaultdict(_Mean)
        self._earlier: dict[Kind, float] = {}
        self._of_all: float | None = None
        """The mean over all kinds of which anything is known; None where it is to be made anew."""
        self._running: dict[str, _Running] = {}
        self._at_once = 1

    # What happens.

    def plan(self, kind: Kind, trainings: int) -> None:
        """Say that trainings are to be done, beside those that were planned before."""
        self._all[kind] += trainings
        self._left[kind] += trainings

    def remain(self, kind: Kind, trainings: int) -> None:
        """Say how many of a kind are still to be done, running ones included: what is done already takes no time."""
        self._left[kind] = trainings

    def drop(self, kind: Kind) -> None:
        """Say that what is left of a kind will never be done."""
        self._all[kind] -= self._left[kind]
        self._left[kind] = 0

    def remember(self, kind: Kind, seconds: Iterable[float]) -> None:
        """Say what earlier trainings of a kind took."""
        if seconds := list(seconds):
            self._earlier[kind] = fmean(seconds)
            self._of_all = None

    def begin(self, name: str, kind: Kind) -> None:
        """Say that one more training runs from now on; ``name`` tells it from others that run at once."""
        self._running[name] = _Running(kind, self._clock())
        self._at_once = max(self._at_once, len(self._running))

    def step(self, name: str, share: float) -> None:
        """Say which part of its steps a running training has taken."""
        self._running[name].share = min(share, 1.0)

    def end(self, name: str, whole: bool = True) -> None:
        """Say that a training is done; unless it is ``whole``, what it took says nothing of others."""
        run = self._running.pop(name)
        self._left[run.kind] = max(0, self._left[run.kind] - 1)
        if whole:
            self._here[run.kind].add(self._clock() - run.since)
            self._of_all = None

    # What can be said.

    @property
    def trainings(self) -> int:
        """How many there are in all."""
        return self._all.total()

    @property
    def done(self) -> int:
        """How many are done."""
        return self.trainings - self._left.total()

    def remaining(self, kind: Kind) -> int:
        """Return how many of a kind are still to be done."""
        return self._left[kind]

    def seconds(self, kind: Kind) -> float | None:
        """Return what a training of a kind takes; None where nothing is known of any."""
        if (known := self._known(kind)) is not None:
            return known
        if self._of_all is None and (kinds := {*self._here, *self._earlier}):
            self._of_all = fmean(self._known(each) or 0.0 for each in sorted(kinds))
        if self._of_all is not None:
            return self._of_all
        begun = [whole for run in self._running.values() if (whole := self._by_its_steps(run)) is not None]
        return fmean(begun) if begun else None

    def _known(self, kind: Kind) -> float | None:
        return self._here[kind].value if kind in self._here else self._earlier.get(kind)

    def left(self) -> float | None:
        """Return the seconds until all is done, as many trainings at once as ever; None where it is not known."""
        if not self._left.total():
            return 0.0
        waiting = Counter(self._left)
        waiting.subtract(run.kind for run in self._running.values())
        kinds = [kind for kind, number in waiting.items() if number > 0]
        running, each = all_known(map(self._left_of, self._running.values())), all_known(map(self.seconds, kinds))
        if running is None or each is None:
            return None
        total = sum(running) + sum(waiting[kind] * seconds for kind, seconds in zip(kinds, each, strict=True))
        return max([total / self._at_once, *running])

    def share(self) -> float:
        """Return the part that is done, weighed by time where that is known: 1 only when nothing is left."""
        if not self.trainings:
            return 0.0
        left = self.left()
        if left is None:
            return self.done / self.trainings
        done = sum(number * (self.seconds(kind) or 0.0) for kind, number in (self._all - self._left).items())
        done += sum(self._clock() - run.since for run in self._running.values())
        whole = done + left * self._at_once
        return done / whole if whole else self.done / self.trainings

    def _left_of(self, run: _Running) -> float | None:
        """Return what is left of a running training: its own pace counts as much as it has got on."""
        expected, by_steps = self.seconds(run.kind), self._by_its_steps(run)
        if expected is None:
            return None
        whole = expected if by_steps is None else (1 - run.share) * expected + run.share * by_steps
        return max(0.0, whole - (self._clock() - run.since))

    def _by_its_steps(self, run: _Running) -> float | None:
        return (self._clock() - run.since) / run.share if run.share else None


def all_known(values: Iterable[float | None]) -> list[float] | None:
    """Return the values; None where one of them is not known."""
    known: list[float] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known
