"""The last row of a table of scores: what an answer reaches for which nothing had to be learnt. It is never ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from statistics import fmean

from zipeft.formatting import listing
from zipeft.leaderboard.ranking import Row
from zipeft.leaderboard.sections import grouped
from zipeft.objectives.classification import MAJORITY
from zipeft.objectives.matching import BaseToNovel
from zipeft.results import Result, Trivial

MOST_FREQUENT = "most frequent test class"


@dataclass(frozen=True)
class TrivialRow:
    """What the trivial answers of a table's data sets score: ``found`` by data set, and the metric of each.

    ``seen`` are the data sets of which the answer was chosen on test data, since nothing better is on record.
    """

    found: Mapping[str, Trivial]
    metrics: Mapping[str, str]
    seen: Sequence[str] = ()

    @property
    def label(self) -> str:
        return f"trivial: {_words(self.found.values())}"

    def score(self, weights: Mapping[str, float]) -> float | None:
        """Return the weighted sum of the metric over data sets; None where one of them has no trivial answer."""
        if not weights.keys() <= self.found.keys():
            return None
        return fsum(weight * self.found[name].test[self.metrics[name]] for name, weight in weights.items())

    def values(self, dataset: str, name: str) -> list[float]:
        """Return any score on a data set, if there is one."""
        test = self.found[dataset].test if dataset in self.found else {}
        return [test[name]] if name in test else []


def trivial_row(rows: Iterable[Row]) -> TrivialRow | None:
    """Return the row below those of a table; None where no data set has a trivial answer."""
    by_dataset = grouped((result for row in rows for result in row.results), lambda result: result.task.dataset)
    found = {name: _of_records(results) or _of_targets(results[0]) for name, results in sorted(by_dataset.items())}
    known = {name: trivial for name, trivial in found.items() if trivial}
    metrics = {name: by_dataset[name][0].task.metric for name in known}
    seen = [name for name, trivial in known.items() if trivial.answer == MOST_FREQUENT]
    return TrivialRow(known, metrics, seen) if known else None


def meaning(rows: Sequence[Row]) -> list[str]:
    """Return what the last row is, in sentences."""
    row = trivial_row(rows)
    if row is None:
        return []
    chosen = [trivial for name, trivial in row.found.items() if name not in row.seen]
    said = ["The last row, which has no rank, is what an answer reaches that needs no learning"]
    said[0] += f" ({_words(chosen)}, by the training data)." if chosen else "."
    if row.seen:
        where = f"On {listing(row.seen)} it" if chosen else "It"
        said.append(
            f"{where} is the most frequent class of the test data themselves: results of older versions have no other "
            "on record."
        )
    return said


def _words(answers: Iterable[Trivial]) -> str:
    return " or ".join(dict.fromkeys(trivial.answer for trivial in answers))


def _of_records(results: Iterable[Result]) -> Trivial | None:
    """Return the trivial answer on record, its scores meaned over seeds, which may draw what it is chosen on."""
    by_seed = {result.seed: result.trivial for result in results if result.trivial}
    if not by_seed:
        return None
    first, *_ = answers = list(by_seed.values())
    alike = [trivial for trivial in answers if trivial.test.keys() == first.test.keys()]
    return Trivial(_words(alike), {name: fmean(trivial.test[name] for trivial in alike) for name in first.test})


def _of_targets(result: Result) -> Trivial | None:
    """Return the trivial answer of a result that has none on record, where its metric allows to tell."""
    return OF_TARGETS.get(result.task.metric, lambda result: None)(result)


def _most_frequent(result: Result) -> Trivial | None:
    if not all(isinstance(target, int | str) for target in result.targets):
        return None
    return Trivial(MOST_FREQUENT, {"accuracy": max(Counter(result.targets).values()) / len(result.targets)})


def _guess_in_halves(result: Result) -> Trivial:
    answer = BaseToNovel(classes=tuple(map(str, range(result.task.classes)))).trivial([], [])
    return Trivial(answer.words, answer.scores([], []))


def _uncorrelated(words: str) -> Callable[[Result], Trivial]:
    """Return what says that an answer which is always the same has no correlation, and 0 stands for that."""
    return lambda result: Trivial(words, {result.task.metric: 0.0})


OF_TARGETS: Mapping[str, Callable[[Result], Trivial | None]] = {
    "accuracy": _most_frequent,
    "matthews": _uncorrelated(MAJORITY),
    "pearson": _uncorrelated("mean"),
    "spearman": _uncorrelated("mean"),
    BaseToNovel.metric: _guess_in_halves,
}
"""By metric, what results of older versions tell of a trivial answer."""
