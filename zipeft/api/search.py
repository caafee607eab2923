"""Hyper-parameter search: a method's space, the settings drawn from it, and the choice among them.

All methods of a comparison get the same number of trials. They are drawn before the first one runs, from a scrambled
Sobol sequence: in every dimension alone, n trials fall into n equal parts of the range. Later trials do not depend on
earlier scores, so an interrupted search goes on with the same trials, and many machines can share it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SAMPLER = "scrambled Sobol"

DIGITS = 3
"""Significant digits of a drawn number: a setting that a reader can type."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, even on a logarithmic scale if ``log``."""

    low: float
    high: float
    log: bool = True

    def at(self, part: float) -> float:
        """Return the number at a part, from 0 to 1, of the way from low to high."""
        ratio = self.high / self.low if self.log else 1.0
        value = self.low * ratio**part if self.log else self.low + part * (self.high - self.low)
        return float(f"{value:.{DIGITS}g}")

    def __str__(self) -> str:
        scale = ", log" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def at(self, part: float) -> Any:
        """Return the value at a part, from 0 to 1, of the way through all."""
        return self.values[min(int(part * len(self.values)), len(self.values) - 1)]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


Dimension = Range | Choice
Space = Mapping[str, Dimension]


def draw(space: Space, count: int, seed: int) -> list[dict[str, Any]]:
    """Return ``count`` settings of a space; fewer with the same seed are the first of more."""
    from scipy.stats import qmc

    if not space or not count:
        return []
    with warnings.catch_warnings():  # a count that is no power of 2 is less even, and no reason to refuse it
        warnings.simplefilter("ignore", UserWarning)
        points = qmc.Sobol(len(space), seed=seed).random(count)
    names = sorted(space)
    return [{name: space[name].at(part) for name, part in zip(names, point, strict=True)} for point in points.tolist()]


def as_record(space: Space) -> dict[str, Any]:
    """Return a space as JSON, for the record."""
    return {name: asdict(dimension) for name, dimension in sorted(space.items())}


def best(scores: Sequence[float | None]) -> int | None:
    """Return the index of the best validation score, the earlier of ties; None if no trial has one."""
    scored = [(score, -index) for index, score in enumerate(scores) if score is not None]
    return -max(scored)[1] if scored else None
