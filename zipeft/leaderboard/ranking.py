"""Rows of a table: a method with its score on every data set, its interval and its rank."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import fsum
from operator import mul
from statistics import fmean
from typing import TYPE_CHECKING

from zipeft.leaderboard.labels import method_key, method_labels
from zipeft.leaderboard.sections import grouped
from zipeft.leaderboard.statistics import CONFIDENCE, Estimate, estimate, holm
from zipeft.results import Result

if TYPE_CHECKING:
    import numpy as np

    from zipeft.api.task import Average

LEAST_SEEDS = 3
"""Fewest shared seeds from which a comparison says anything."""

LEAST_SEEDS_ALONE = 6
"""The same for two rows that have no scores by example, or not of the same examples: seeds alone have to tell."""

BEST, TIED, WORSE, UNKNOWN = "best", "tied", "worse", "unknown"

Runs = Mapping[int, Sequence[Result]]
"""By seed, a row's result on each data set of a column."""


@dataclass(frozen=True)
class Score:
    """A mean over seeds with its 95 % interval, as fractions; None where a single number says nothing of its error.

    ``rank`` is 1 + the number of rows that are significantly better; None, with UNKNOWN, where nothing can be said.
    ``p`` is the corrected p-value of the comparison with the best row, ``seed_ratio`` the standard error of that
    difference which seeds cause over the one which test examples cause.
    """

    mean: float
    low: float | None
    high: float | None
    seeds: int
    verdict: str = UNKNOWN
    rank: int | None = None
    p: float | None = None
    seed_ratio: float | None = None


@dataclass(frozen=True)
class Row:
    """One method with its fixed settings and its search space.

    ``mean`` is that over all data sets, from the ``seeds`` that ran on all of them; None where there is no such seed.
    """

    label: str
    results: Sequence[Result]
    scores: Mapping[str, Score]
    mean: Score | None
    seeds: Sequence[int]


def summary_rows(results: Iterable[Result]) -> list[Row]:
    """Return a row a method, best mean first, then those that lack a data set. ``results`` are those of a section."""
    results = list(results)
    datasets = sorted({result.task.dataset for result in results})
    labels = method_labels(results)
    groups = grouped(results, lambda result: labels[method_key(result)])
    runs = {label: _runs(group, datasets) for label, group in groups.items()}
    columns = {
        name: score_column({label: _runs(group, [name]) for label, group in groups.items()}) for name in datasets
    }
    means = columns[datasets[0]] if len(datasets) == 1 else score_column(runs)
    rows = []
    for label, group in groups.items():
        scores = {name: column[label] for name, column in columns.items() if label in column}
        rows.append(Row(label, group, scores, means.get(label), sorted(runs[label])))
    return sorted(rows, key=lambda row: (row.mean is None, -row.mean.mean if row.mean else 0.0, row.label))


def average_columns(rows: Sequence[Row], averages: Sequence[Average]) -> list[dict[str, Score]]:
    """Return the judged scores of each average, by the rows' labels: of rows that have a seed on all its data sets."""
    return [
        score_column({row.label: _runs(row.results, list(each.weights)) for row in rows}, list(each.weights.values()))
        for each in averages
    ]


def _runs(results: Iterable[Result], datasets: Sequence[str]) -> Runs:
    """Return the results of the seeds that have one on every data set."""
    by_seed = grouped(results, lambda result: result.seed)
    found = {seed: {result.task.dataset: result for result in group} for seed, group in by_seed.items()}
    return {seed: [own[name] for name in datasets] for seed, own in sorted(found.items()) if own.keys() >= {*datasets}}


# Scores of one column, and the comparison of all pairs.


def score_column(runs: Mapping[str, Runs], weights: Sequence[float] | None = None) -> dict[str, Score]:
    """Return the judged score of every row that has a run, by its label.

    ``weights`` of the data sets, in their order, add up to 1; without, all weigh the same.
    """
    runs = {label: own for label, own in sorted(runs.items()) if own}
    tables = {label: _tables([own], list(own))[0] for label, own in runs.items()}
    if weights:
        tables = {label: _weighted(own, weights) for label, own in tables.items()}
    scores = {label: _score(own, tables[label], weights) for label, own in runs.items()}
    found = {}
    for a, b in combinations(runs, 2):  # one pair at a time: the tables of all may be more than memory has room for
        if gap := _gap(runs[a], runs[b]):
            found[a, b] = estimate(_weighted(gap, weights) if weights else gap)
    return _judged(scores, found, holm({pair: each.p_value() for pair, each in found.items()}))


def _score(runs: Runs, tables: Sequence[np.ndarray], weights: Sequence[float] | None) -> Score:
    mean = fmean(_average([result.score for result in results], weights) for results in runs.values())
    interval = estimate(tables).interval()
    if interval is None:
        return Score(mean, None, None, len(runs))
    least = 0.0 if all(table.shape[1] > 1 and table.min() >= 0 for table in tables) else -1.0
    return Score(mean, max(interval[0], least), min(interval[1], 1.0), len(runs))


def _average(scores: Sequence[float], weights: Sequence[float] | None) -> float:
    """Return the weighted mean, whose weights add up to 1, or the plain one."""
    return fsum(map(mul, scores, weights)) if weights else fmean(scores)


def _weighted(tables: Sequence[np.ndarray], weights: Sequence[float]) -> list[np.ndarray]:
    """Return tables whose plain mean is the weighted mean of ``tables``."""
    return [table * (weight * len(tables)) for table, weight in zip(tables, weights, strict=True)]


def _tables(rows: Sequence[Runs], seeds: Sequence[int]) -> list[list[np.ndarray]]:
    """Return each row's tables of scores, one a data set: by item only if all of the rows have the same items."""
    import numpy as np

    tables: list[list[np.ndarray]] = [[] for _ in rows]
    for index in range(len(rows[0][seeds[0]])):
        results = [[own[seed][index] for seed in seeds] for own in rows]
        first = results[0][0]
        items = all(r.item_scores and r.targets == first.targets for group in results for r in group)
        for table, group in zip(tables, results, strict=True):
            table.append(np.array([r.item_scores if items else [r.score] for r in group]))
    return tables


def _gap(a: Runs, b: Runs) -> list[np.ndarray]:
    """Return tables of the differences a - b over shared seeds; none where these are too few to say anything."""
    seeds = [seed for seed in a if seed in b]
    if len(seeds) < LEAST_SEEDS:
        return []
    ours, theirs = _tables([a, b], seeds)
    has_items = any(table.shape[1] > 1 for table in ours)
    enough = has_items or len(seeds) >= LEAST_SEEDS_ALONE
    return [x - y for x, y in zip(ours, theirs, strict=True)] if enough else []


def _judged(
    scores: Mapping[str, Score], gaps: Mapping[tuple[str, str], Estimate], p: Mapping[tuple[str, str], float]
) -> dict[str, Score]:
    """Return scores with rank and verdict. A pair of labels stands in their order, its gap is the first's lead."""
    if not gaps:
        return dict(scores)
    compared = {label for pair in gaps for label in pair}
    best = min(compared, key=lambda label: (-scores[label].mean, label))
    losses = {(b, a) if gap.mean > 0 else (a, b) for (a, b), gap in gaps.items() if p[a, b] < 1 - CONFIDENCE}
    lost = Counter(loser for loser, _ in losses)
    judged = dict(scores)
    for label in compared:
        pair = (min(label, best), max(label, best))
        if label == best or pair in p:
            verdict = BEST if label == best else WORSE if (label, best) in losses else TIED
            rank = 1 + lost[label]
            ratio = gaps[pair].seed_ratio if pair in gaps else None
            judged[label] = replace(scores[label], verdict=verdict, rank=rank, p=p.get(pair), seed_ratio=ratio)
    return judged
