"""What moved between two sets of results: each row of one beside the same row of the other, and whether by noise.

A row is a method with its fixed settings and its search space on one data set, under one comparability hash, as boards
have it. The same seeds and the same test examples are paired, and the intervals are those of the boards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from zipeft.leaderboard.labels import method_key, method_labels
from zipeft.leaderboard.ranking import LEAST_SEEDS, LEAST_SEEDS_ALONE
from zipeft.leaderboard.sections import grouped
from zipeft.leaderboard.statistics import CONFIDENCE, Estimate, estimate, holm
from zipeft.results import Result, conditions_key, differences
from zipeft.results.differences import unequal

if TYPE_CHECKING:
    import numpy as np

EQUAL, HIGHER, LOWER, NOISE, UNKNOWN = "equal", "higher", "lower", "within noise", "too few seeds"

MEAN = "mean"
"""Stands in place of a data set for the mean over those of a board."""

RowKey = tuple[str, str]
"""Comparability hash and ``method_key``."""


@dataclass(frozen=True)
class Move:
    """One row in both sets of results. ``dataset`` is MEAN for the mean over the data sets of its board.

    ``before`` and ``after`` are the runs of the ``seeds`` that both have. ``gap`` is after minus before; None without
    such seeds. ``p`` is corrected for the number of rows.
    """

    label: str
    dataset: str
    before: Sequence[Result]
    after: Sequence[Result]
    seeds: Sequence[int]
    gap: Estimate | None = None
    p: float | None = None

    @property
    def scores(self) -> tuple[float, float]:
        """The mean scores, before and after."""
        before, after = ([result.score for result in side] for side in (self.before, self.after))
        return fmean(before), fmean(after)

    @property
    def verdict(self) -> str:
        if self.seeds and all(map(_same, self.before, self.after)):
            return EQUAL
        if self.gap is None or self.p is None:
            return UNKNOWN
        if self.p >= 1 - CONFIDENCE:
            return NOISE
        return HIGHER if self.gap.mean > 0 else LOWER

    @property
    def chosen(self) -> str:
        """What the searches before the runs chose otherwise, as "learning_rate 0.001 / 0.003"; "" where nothing."""
        sides = (side[0].method for side in (self.before, self.after))
        found = unequal(*({name: each.settings[name] for name in each.space} for each in sides))
        return ", ".join(f"{name} {values}" for name, values in found.items()) if self.dataset != MEAN else ""


@dataclass(frozen=True)
class Unpaired:
    """A row that one set of results alone has. ``why`` says in what the nearest row of the other differs, if any."""

    label: str
    results: Sequence[Result]
    why: str


@dataclass(frozen=True)
class Movement:
    """All rows of two sets of results."""

    moves: Sequence[Move]
    only_before: Sequence[Unpaired]
    only_after: Sequence[Unpaired]


def movement(before: Iterable[Result], after: Iterable[Result]) -> Movement:
    """Return what moved from one set of results to another."""
    sides = _rows(before), _rows(after)
    labels = _labels([result for side in sides for row in side.values() for result in row.values()])
    shared = [key for key in sides[0] if key in sides[1]]
    moves = [_move(labels[key], [(sides[0][key], sides[1][key])]) for key in shared]
    moves += [
        _move(labels[keys[0]], [(sides[0][key], sides[1][key]) for key in keys]) for keys in _boards(shared, sides[0])
    ]
    known = {index: move.gap.p_value() for index, move in enumerate(moves) if move.gap and _enough(move)}
    p = holm(known)
    judged = [replace(move, p=p.get(index)) for index, move in enumerate(moves)]
    judged.sort(key=lambda move: (_board(move.before[0]), move.dataset == MEAN, move.dataset, move.label))
    return Movement(judged, _unpaired(sides[0], sides[1], labels), _unpaired(sides[1], sides[0], labels))


def _rows(results: Iterable[Result]) -> dict[RowKey, dict[int, Result]]:
    """Return the newest result of every seed, by row."""
    rows: dict[RowKey, dict[int, Result]] = {}
    for result in sorted(results, key=lambda result: (result.when, result.id)):
        rows.setdefault((result.comparability, method_key(result)), {})[result.seed] = result
    return {key: dict(sorted(rows[key].items())) for key in sorted(rows)}


def _labels(results: Sequence[Result]) -> dict[RowKey, str]:
    """Return what each row is called beside the others of its board."""
    labels: dict[RowKey, str] = {}
    for group in grouped(results, _board).values():
        named = method_labels(group)
        labels |= {(result.comparability, method_key(result)): named[method_key(result)] for result in group}
    return labels


def _board(result: Result) -> tuple[str, str, str]:
    return result.backbone.name, result.task.name, conditions_key(result)


def _boards(shared: Sequence[RowKey], rows: Mapping[RowKey, Mapping[int, Result]]) -> list[list[RowKey]]:
    """Return the rows of each method on a board that has several data sets."""
    groups: dict[tuple[object, ...], list[RowKey]] = {}
    for key in shared:
        groups.setdefault((_board(next(iter(rows[key].values()))), key[1]), []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _move(label: str, pairs: Sequence[tuple[Mapping[int, Result], Mapping[int, Result]]]) -> Move:
    """Return the move of a row on one data set or, of several ``pairs``, that of its mean."""
    seeds = sorted(set.intersection(*({*side} for pair in pairs for side in pair)))
    dataset = next(iter(pairs[0][0].values())).task.dataset if len(pairs) == 1 else MEAN
    taken = [[[own[seed] for seed in seeds or own] for own in pair] for pair in pairs]
    before, after = ([result for pair in taken for result in pair[side]] for side in (0, 1))
    gap = estimate([_difference(*pair) for pair in taken]) if seeds else None
    return Move(label, dataset, before, after, seeds, gap)


def _difference(before: Sequence[Result], after: Sequence[Result]) -> np.ndarray:
    """Return a table of differences (seeds, items): by test example where all have scores of the same examples."""
    import numpy as np

    runs = [*before, *after]
    items = all(run.item_scores and run.targets == runs[0].targets for run in runs)
    sides = [np.array([run.item_scores if items else [run.score] for run in side]) for side in (before, after)]
    return sides[1] - sides[0]


def _enough(move: Move) -> bool:
    """Whether there are as many seeds as boards ask for."""
    has_items = all(run.item_scores for run in (*move.before, *move.after))
    return len(move.seeds) >= (LEAST_SEEDS if has_items else LEAST_SEEDS_ALONE)


def _same(a: Result, b: Result) -> bool:
    return (a.test, a.predictions, a.item_scores) == (b.test, b.predictions, b.item_scores)


def _unpaired(
    own: Mapping[RowKey, Mapping[int, Result]],
    other: Mapping[RowKey, Mapping[int, Result]],
    labels: Mapping[RowKey, str],
) -> list[Unpaired]:
    """Return the rows that ``own`` has and ``other`` has not."""
    there = [next(iter(runs.values())) for runs in other.values()]
    found = []
    for key in own:
        if key not in other:
            runs = list(own[key].values())
            found.append(Unpaired(labels[key], runs, _why(runs[0], there)))
    return found


def _why(result: Result, others: Sequence[Result]) -> str:
    def about(each: Result) -> tuple[str, ...]:
        return each.backbone.name, each.task.name, each.task.dataset, each.method.name

    alike = [other for other in others if about(other) == about(result)]
    if not alike:
        return ""
    found = min(([*differences(result, other), *_method(result, other)] for other in alike), key=len)
    return "; ".join(found)


def _method(a: Result, b: Result) -> list[str]:
    sides = ({**each.method.fixed, "space": each.method.space} for each in (a, b))
    return [f"{name} {values}" for name, values in unequal(*sides).items()]
