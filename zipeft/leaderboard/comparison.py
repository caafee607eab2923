"""Statistics of results: which may be compared, a row a method, intervals over seeds, and tests against the best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from zipeft.results import Result, conditions_key, differences
from zipeft.results.identity import brief, canonical, flatten

CONFIDENCE = 0.95
LEAST_SEEDS = 3
"""Fewest shared seeds from which a paired test says anything."""

BEST, TIED, WORSE, UNKNOWN, UNRANKED = "best", "tied", "worse", "unknown", "unranked"


@dataclass(frozen=True)
class Section:
    """Comparable results, one a method, data set and seed: the newest. ``superseded`` counts the older ones."""

    results: Sequence[Result]
    superseded: int


@dataclass(frozen=True)
class Estimate:
    """A mean over ``seeds`` runs and half the width of its 95 % interval, as fractions; one seed has no interval."""

    mean: float
    half_width: float | None
    seeds: int


@dataclass(frozen=True)
class Row:
    """One method with one choice of settings.

    ``by_seed`` holds the mean over all data sets for each seed that ran on all of them; ``mean`` is None where there is
    none. ``verdict`` compares with the best row.
    """

    label: str
    results: Sequence[Result]
    scores: Mapping[str, Estimate]
    by_seed: Mapping[int, float]
    mean: Estimate | None
    verdict: str = UNRANKED

    def costs(self, name: str) -> list[float]:
        """Return one field of the cost of every run."""
        return [getattr(result.cost, name) for result in self.results]

    def training_seconds(self) -> float:
        """Return the mean time of a run in training, activations of frozen blocks included."""
        return fmean(result.cost.train_seconds + result.cost.frozen_prefix_seconds for result in self.results)


def sections(results: Iterable[Result]) -> list[Section]:
    """Return results in groups whose rows may be compared, the group with most results first.

    A data set whose content changed under the same name starts a group of its own.
    """
    groups: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for key, group in _group(results, conditions_key).items():
        for revisions in _group(group, lambda result: result.task.dataset).values():
            contents = _group(revisions, lambda result: (result.task.checksum, result.task.metric))
            newest_first = sorted(contents.values(), key=lambda content: max(map(_age, content)), reverse=True)
            for revision, content in enumerate(newest_first):
                groups[key, revision] += content
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return [_newest(groups[key]) for key in order]


def _group(results: Iterable[Result], key: Callable[[Result], Any]) -> dict[Any, list[Result]]:
    groups: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return groups


def _age(result: Result) -> tuple[Any, ...]:
    """Return what orders results of one run by age: content breaks ties, so the order of files never matters."""
    return result.when, canonical(result.to_json())


def _newest(results: Iterable[Result]) -> Section:
    runs = _group(results, lambda result: result.id)
    kept = [max(group, key=_age) for group in runs.values()]
    kept.sort(key=lambda result: (result.method.name, result.task.dataset, result.seed, result.id))
    return Section(kept, sum(map(len, runs.values())) - len(kept))


def section_differences(a: Section, b: Section) -> list[str]:
    """Return in what two sections differ, seen on the data sets that both have where there are any."""
    sides = [{result.task.dataset: result for result in side.results} for side in (a, b)]
    shared = sorted(set(sides[0]) & set(sides[1]))
    pairs = [(sides[0][name], sides[1][name]) for name in shared] or [(a.results[0], b.results[0])]
    return list(dict.fromkeys(difference for pair in pairs for difference in differences(*pair)))


# Rows.


def summary_rows(results: Iterable[Result]) -> list[Row]:
    """Return a row a method, best mean first, then those that lack a data set. ``results`` are those of a section."""
    results = list(results)
    datasets = sorted({result.task.dataset for result in results})
    labels = method_labels(results)
    groups = _group(results, lambda result: labels[method_key(result)])
    rows = [_row(label, group, datasets) for label, group in groups.items()]
    rows.sort(key=lambda row: (row.mean is None, -row.mean.mean if row.mean else 0.0, row.label))
    return [_judged(row, rows[0]) for row in rows]


def method_key(result: Result) -> str:
    """Return the text that is equal for results of the same method with the same settings."""
    return canonical([result.method.name, result.method.settings])


def method_labels(results: Iterable[Result]) -> dict[str, str]:
    """Return a label by ``method_key``: the name, and if a name has several settings, those that differ."""
    variants = _group({method_key(result): result for result in results}.values(), lambda result: result.method.name)
    labels = {}
    for name, group in variants.items():
        settings = {method_key(result): flatten(result.method.settings) for result in group}
        values = {key: {k: brief(v) for k, v in flat.items()} for key, flat in settings.items()}
        names = sorted({k for flat in values.values() for k in flat})
        differing = [k for k in names if len({flat.get(k, "unset") for flat in values.values()}) > 1]
        for key, flat in values.items():
            said = ", ".join(f"{k}={flat.get(k, 'unset')}" for k in differing)
            labels[key] = f"{name} ({said})" if said else name
    return labels


def _row(label: str, results: Sequence[Result], datasets: Sequence[str]) -> Row:
    scores = {name: {r.seed: r.score for r in results if r.task.dataset == name} for name in datasets}
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in scores.values())))
    by_seed = {seed: fmean(scores[name][seed] for name in datasets) for seed in shared}
    return Row(
        label=label,
        results=results,
        scores={name: estimate(list(values.values())) for name, values in scores.items() if values},
        by_seed=by_seed,
        mean=estimate(list(by_seed.values())) if by_seed else None,
    )


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one value a seed with its Student t interval."""
    if len(values) < 2:
        return Estimate(fmean(values), None, len(values))
    from scipy import stats

    half_width = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return Estimate(fmean(values), float(half_width), len(values))


def _judged(row: Row, best: Row) -> Row:
    if row.mean is None:
        return row
    return replace(row, verdict=BEST if row is best else compare(best.by_seed, row.by_seed))


def compare(best: Mapping[int, float], other: Mapping[int, float]) -> str:
    """Return WORSE if a paired t-test over shared seeds says so, else TIED; UNKNOWN below three shared seeds."""
    shared = sorted(set(best) & set(other))
    if len(shared) < LEAST_SEEDS:
        return UNKNOWN
    gaps = [best[seed] - other[seed] for seed in shared]
    if max(gaps) - min(gaps) < 1e-12:  # no variance to test against: the difference is exactly this one
        return WORSE if gaps[0] > 1e-12 else TIED
    from scipy import stats

    p = stats.ttest_rel([best[seed] for seed in shared], [other[seed] for seed in shared]).pvalue
    return WORSE if p < 1 - CONFIDENCE and fmean(gaps) > 0 else TIED
