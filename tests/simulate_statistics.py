"""Simulate the leaderboard's intervals and tests where the truth is known, and print the table of docs/statistics.md.

Scores are normal: a seed's part, an item's part and noise of their own for every run and item. ``ratio`` is that of the
standard errors of a mean that seeds and items cause. Methods have their items' parts half in common, as methods that
find the same examples hard do. No method is better than another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import combinations
from math import sqrt

import numpy as np
from scipy import stats

from zipeft.leaderboard.statistics import CONFIDENCE, Estimate, estimate

SEEDS, RATIOS = (3, 5, 10), (0.0, 0.5, 1.0, 2.0, 4.0)
ITEMS, METHODS, TABLES, FAMILIES = 100, 8, 2000, 1000
LEVEL = 1 - CONFIDENCE
LARGE = 5
PAIRS = METHODS * (METHODS - 1) // 2


@dataclass(frozen=True)
class Line:
    """A line of the table, rates in percent. ``found`` is that of true differences which are ``LARGE`` of their
    standard errors; ``welch`` rates are those of one t with Satterthwaite's degrees of freedom."""

    seeds: int
    ratio: float
    coverage: float
    one_pair: float
    first_of_holm: float
    any_of_pairs: float
    found: float
    welch_one_pair: float
    welch_any_of_pairs: float


HEADERS = (
    "seeds",
    "seed-to-item ratio",
    "coverage of the 95 % interval",
    "one pair at 5 %",
    f"one pair at 5/{PAIRS} %",
    f"any of {PAIRS} pairs, Holm",
    f"a difference of {LARGE} standard errors is found at 5/{PAIRS} %",
    "one t: one pair at 5 %",
    "one t: any of the pairs, Holm",
)


def scores(rng: np.random.Generator, methods: int, seeds: int, ratio: float) -> np.ndarray:
    """Return scores of shape (methods, seeds, ITEMS), whose mean is 0."""
    items = rng.normal(0, sqrt(0.5), (1, 1, ITEMS)) + rng.normal(0, sqrt(0.5), (methods, 1, ITEMS))
    noise = rng.normal(0, 1, (methods, seeds, ITEMS))
    return items + noise + rng.normal(0, ratio * of_items(seeds) * sqrt(seeds), (methods, seeds, 1))


def of_items(seeds: int) -> float:
    """Return the standard error of a method's mean that items cause, noise and all."""
    return sqrt((1 + 1 / seeds) / ITEMS)


def of_gap(seeds: int, ratio: float) -> float:
    """Return the standard error of a difference of two methods' means, in which half of the items' parts cancels."""
    return sqrt((1 + 2 / seeds) / ITEMS + 2 * (ratio * of_items(seeds)) ** 2)


def is_wrong(found: Estimate, level: float) -> bool:
    return abs(found.mean) > found.half_width(level)


def satterthwaite_p(table: np.ndarray) -> float:
    """Return the p-value of a table's mean by one t, whose variance is a sum of mean squares."""
    seeds, items = table.shape
    rows, columns, all_ = table.mean(1, keepdims=True), table.mean(0, keepdims=True), table.mean()
    squares = np.array([items * rows.var(ddof=1), seeds * columns.var(ddof=1), 0.0])
    squares[2] = -((table - rows - columns + all_) ** 2).sum() / ((seeds - 1) * (items - 1))
    freedom = np.array([seeds - 1, items - 1, (seeds - 1) * (items - 1)])
    total = max(squares.sum(), 1e-300)
    t = abs(all_) / sqrt(total / (seeds * items))
    return float(2 * stats.t.sf(t, total**2 / (squares**2 / freedom).sum()))


def line(seeds: int, ratio: float, tables: int = TABLES, families: int = FAMILIES) -> Line:
    """Return what a number of simulated comparisons gives."""
    rng = np.random.default_rng([seeds, int(10 * ratio)])
    single = [estimate([scores(rng, 1, seeds, ratio)[0]]) for _ in range(tables)]
    gaps = [np.subtract(*scores(rng, 2, seeds, ratio)) for _ in range(tables)]
    pairs = [estimate([gap]) for gap in gaps]
    some, some_by_t = [], []
    for _ in range(families):
        methods = scores(rng, METHODS, seeds, ratio)
        own = [a - b for a, b in combinations(methods, 2)]
        some.append(any(is_wrong(estimate([gap]), LEVEL / PAIRS) for gap in own))
        some_by_t.append(min(map(satterthwaite_p, own)) < LEVEL / PAIRS)
    rates = (
        [not is_wrong(each, LEVEL) for each in single],
        [is_wrong(each, LEVEL) for each in pairs],
        [is_wrong(each, LEVEL / PAIRS) for each in pairs],
        some,
        [abs(each.mean + LARGE * of_gap(seeds, ratio)) > each.half_width(LEVEL / PAIRS) for each in pairs],
        [satterthwaite_p(gap) < LEVEL for gap in gaps],
        some_by_t,
    )
    return Line(seeds, ratio, *(round(100 * float(np.mean(rate)), 1) for rate in rates))


def lines() -> Iterator[Line]:
    yield from (line(seeds, ratio) for seeds in SEEDS for ratio in RATIOS)


def as_row(found: Line) -> str:
    return f"| {' | '.join(map(str, astuple(found)))} |"


def read_rows(text: str) -> list[Line]:
    """Return the lines of a table that a text holds."""
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in text.splitlines() if row.startswith("| ")]
    numbers = [row for row in rows if len(row) == len(fields(Line)) and row[0].isdigit()]
    return [Line(int(row[0]), *map(float, row[1:])) for row in numbers]


if __name__ == "__main__":
    print(f"| {' | '.join(HEADERS)} |\n|{'--:|' * len(HEADERS)}")
    for each in lines():
        print(as_row(each), flush=True)
