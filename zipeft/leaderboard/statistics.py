"""Means over seeds and test examples: how sure they are, tests of them, and the correction for the number of tests.

Scores come as a table a data set, an array of shape (seeds, items) of fractions: an item is a test example, or all of
them together, which is one item, where a metric is no mean over examples. Both seeds and items are a sample: another
draw of either would have given another mean. What each adds to its variance comes from the two-way analysis of
variance with random effects (Searle, Casella and McCulloch, *Variance Components*, 1992, chapter 4). An interval adds
the squares of the half-widths that Student's t gives each part: it covers the true mean at least as often as it says
(Banerjee, Sankhya 22:357, 1960), where one t of Satterthwaite's degrees of freedom does so too seldom with three
seeds. Nothing is drawn, so the same results always give the same numbers. docs/statistics.md has the formulas, and
what they give where the truth is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, log10, sqrt
from sys import float_info
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95

ROUNDING = 1e-12
"""Differences of means below this come from adding the same numbers in another order."""

LEAST_P, MOST_P = 1e-100, 1 - 1e-9
"""Between these a p-value is looked for."""

K = TypeVar("K")


@dataclass(frozen=True)
class Part:
    """What one source adds to the variance of a mean, and the degrees of freedom from which that is known."""

    variance: float
    freedom: int

    def squared(self, level: float) -> float:
        """Return the square of half the width of this part's own interval."""
        from scipy.special import stdtrit

        return self.variance * float(stdtrit(self.freedom, level / 2)) ** 2


@dataclass(frozen=True)
class Estimate:
    """A mean over data sets, and what its variance comes from; with neither part it is a single number.

    ``noise`` is in the part of ``seeds``, which is no narrower than that: three seeds may agree by chance, and scores
    of few examples often do.

    ``seed_ratio`` is the standard error of the mean that seeds cause over the one that items cause; None where either
    is not known, or items cause none.
    """

    mean: float
    seeds: Part | None = None
    noise: Part | None = None
    items: tuple[Part, ...] = ()
    seed_ratio: float | None = None

    def half_width(self, level: float) -> float:
        """Return half the width of the interval that leaves out the true mean with probability ``level``."""
        of_seeds = max((part.squared(level) for part in (self.seeds, self.noise) if part), default=0.0)
        return sqrt(of_seeds + sum(part.squared(level) for part in self.items))

    def interval(self) -> tuple[float, float] | None:
        """Return the ends of the 95 % interval of the mean; None where nothing is known of its variance."""
        half = self.half_width(1 - CONFIDENCE)
        return (self.mean - half, self.mean + half) if self.seeds or self.items else None

    def p_value(self) -> float:
        """Return the two-sided p-value of the mean: it is below 5 % where the 95 % interval leaves out 0."""
        from scipy.optimize import brentq

        distance = abs(self.mean)
        if distance <= ROUNDING:
            return 1.0
        if self.half_width(LEAST_P) <= distance:
            return LEAST_P
        if self.half_width(MOST_P) >= distance:
            return 1.0

        # In logarithms the curve is smooth, down to levels that differ from 0 by little.
        def gap(power: float) -> float:
            return log(max(self.half_width(10**power), float_info.min) / distance)

        return 10 ** brentq(gap, log10(LEAST_P), log10(MOST_P))


def estimate(tables: Sequence[np.ndarray]) -> Estimate:
    """Return the mean of tables, one a data set, which have their seeds in common and as many items as each has."""
    import numpy as np

    by_seed = np.mean([table.mean(axis=1) for table in tables], axis=0)
    seeds = len(by_seed)
    pieces, share = map(_pieces, tables), 1 / len(tables) ** 2
    of_items = [(share * both, share * noise, freedom) for both, noise, freedom in pieces if freedom]
    parts = tuple(Part(max(0.0, both - noise), freedom) for both, noise, freedom in of_items)
    if seeds == 1:
        return Estimate(float(by_seed[0]), items=parts)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    both, noise, freedom = map(sum, zip(*of_items, strict=True)) if of_items else (0.0, 0.0, 0)
    ratio = sqrt(max(0.0, of_seeds - noise) / both) if both else None
    of_noise = Part(noise, freedom * (seeds - 1)) if freedom else None
    return Estimate(float(by_seed.mean()), Part(of_seeds, seeds - 1), of_noise, parts, ratio)


def _pieces(table: np.ndarray) -> tuple[float, float, int]:
    """Return what items add to the variance of a table's mean, that of the noise in it, and degrees of freedom.

    Noise is what differs from item to item in another way for each seed. The seeds' part has it too, so it is taken out
    of one of the two. With one seed it cannot be told from items, and is theirs.
    """
    seeds, items = table.shape
    if items == 1:
        return 0.0, 0.0, 0
    of_items = float(table.mean(axis=0).var(ddof=1)) / items
    if seeds == 1:
        return of_items, 0.0, items - 1
    left = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    noise = float((left**2).sum()) / ((seeds - 1) * (items - 1))
    return of_items, noise / (seeds * items), items - 1


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Return p-values corrected for their number by Holm's method, which holds however they depend on each other."""
    if not p_values:
        return {}
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, corrected.tolist(), strict=True))
