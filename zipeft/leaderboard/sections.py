"""Sections: which results may be compared, the newest of every run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zipeft.results import Result, conditions_key, differences


@dataclass(frozen=True)
class Section:
    """Comparable results, one a method, data set and seed: the newest. ``superseded`` counts the older ones."""

    results: Sequence[Result]
    superseded: int


def sections(results: Iterable[Result]) -> list[Section]:
    """Return results in groups whose rows may be compared, the group with most results first.

    A data set whose content changed under the same name starts a group of its own.
    """
    groups: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for key, group in grouped(results, conditions_key).items():
        for revisions in grouped(group, lambda result: result.task.dataset).values():
            contents = grouped(revisions, lambda result: (result.task.checksum, result.task.metric))
            newest_first = sorted(contents.values(), key=_age, reverse=True) if len(contents) > 1 else contents.values()
            for revision, content in enumerate(newest_first):
                groups[key, revision] += content
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return [_newest(groups[key]) for key in order]


def grouped(results: Iterable[Result], key: Callable[[Result], Any]) -> dict[Any, list[Result]]:
    """Return results by ``key``, in the order in which the keys first appear."""
    groups: dict[Any, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return dict(groups)


def _age(results: Sequence[Result]) -> tuple[Any, ...]:
    """Return what orders groups of results by the age of the newest in each."""
    newest = _newest_of(results)
    return newest.when, newest.to_json()["sha256"]


def _newest_of(results: Sequence[Result]) -> Result:
    """Return the newest result; content breaks ties, so that the order of files never matters."""
    latest = max(result.when for result in results)
    tied = [result for result in results if result.when == latest]
    return tied[0] if len(tied) == 1 else max(tied, key=lambda result: result.to_json()["sha256"])


def _newest(results: Iterable[Result]) -> Section:
    runs = grouped(results, lambda result: result.id)
    kept = list(map(_newest_of, runs.values()))
    kept.sort(key=lambda result: (result.method.name, result.task.dataset, result.seed, result.id))
    return Section(kept, sum(map(len, runs.values())) - len(kept))


def section_differences(a: Section, b: Section) -> list[str]:
    """Return in what two sections differ, seen on the data sets that both have where there are any."""
    sides = [{result.task.dataset: result for result in side.results} for side in (a, b)]
    shared = sorted(set(sides[0]) & set(sides[1]))
    pairs = [(sides[0][name], sides[1][name]) for name in shared] or [(a.results[0], b.results[0])]
    return list(dict.fromkeys(difference for pair in pairs for difference in differences(*pair)))
