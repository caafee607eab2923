"""Scores beside the one that ranks: other metrics, and test data from elsewhere, as a table of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from zipeft.formatting import DASH, is_better_lower, score_text
from zipeft.leaderboard.blocks import DOWN, UP, Cell, Column, Table
from zipeft.leaderboard.ranking import Row
from zipeft.leaderboard.task_of_page import task_of
from zipeft.leaderboard.trivial import trivial_row

if TYPE_CHECKING:
    from zipeft.api.task import Summary

Values = Callable[[str, str], Sequence[float]]
"""A row's values of a score, by data set and name."""

MEANING = (
    "Means over seeds, in percent but for losses and perplexities, and their standard deviation. Nothing was selected "
    "by these scores, and no row is ranked by them; those named after another set are from its test data, which "
    "training and validation data are not like."
)


def other_names(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the data set and the name of every score that is not its data set's metric, in order."""
    found = {
        (result.task.dataset, name): None
        for row in rows
        for result in row.results
        for name in result.test
        if name != result.task.metric
    }
    return sorted(found, key=lambda pair: pair[0])


def other_values(row: Row, dataset: str, name: str) -> list[float]:
    """Return a row's values of such a score, one a seed."""
    return [result.test[name] for result in row.results if result.task.dataset == dataset and name in result.test]


def other_table(rows: Sequence[Row]) -> Table | None:
    """Return all rows' other scores, and what the task sums them up to; None where there are none."""
    names = other_names(rows)
    if not names:
        return None
    several = len(_datasets(rows)) > 1
    columns = [Column("method", numeric=False)]
    columns += [
        Column(f"{dataset}\n({name})" if several else name, first=UP if is_better_lower(name) else DOWN)
        for dataset, name in names
    ]
    summaries = _summaries(rows)
    columns += [Column(summary.name, first=DOWN) for summary in summaries]
    lines: list[tuple[str, Values]] = [(row.label, partial(other_values, row)) for row in rows]
    trivial = trivial_row(rows)
    if trivial and any(trivial.values(*pair) for pair in names):
        lines.append((trivial.label, trivial.values))
    cells = [
        [
            Cell(label, value=label),
            *(_cell(name, values(dataset, name)) for dataset, name in names),
            *(_summed(summary, values, _datasets(rows)) for summary in summaries),
        ]
        for label, values in lines
    ]
    return Table(columns, cells, "Other scores")


def meaning(rows: Sequence[Row]) -> str:
    """Return what the other scores mean, in words."""
    return " ".join([MEANING, *(summary.meaning for summary in _summaries(rows))])


def _datasets(rows: Sequence[Row]) -> list[str]:
    return sorted({result.task.dataset for row in rows for result in row.results})


def _summaries(rows: Sequence[Row]) -> Sequence[Summary]:
    task = task_of(result for row in rows for result in row.results)
    return task.summaries if task else ()


def _summed(summary: Summary, of_row: Values, datasets: Sequence[str]) -> Cell:
    """Return a summary of a row's scores, meaned over data sets and seeds; a dash where one is missing."""
    values = {name: [of_row(dataset, name) for dataset in datasets] for name in summary.needs}
    if not all(map(all, values.values())):
        return Cell(DASH)
    found = summary.of({name: fmean(map(fmean, own)) for name, own in values.items()})
    return Cell(score_text(summary.name, found), value=found)


def _cell(name: str, values: Sequence[float]) -> Cell:
    if not values:
        return Cell(DASH)
    deviation = f"± {score_text(name, stdev(values))}" if len(values) > 1 else ""
    return Cell(score_text(name, fmean(values)), deviation, fmean(values))
