"""A page's numbers for other programs, as CSV: plain units, empty where there is no number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from statistics import fmean

from zipeft.leaderboard import costs
from zipeft.leaderboard.machines import Machine, reference
from zipeft.leaderboard.page import Page
from zipeft.leaderboard.ranking import Row, Score
from zipeft.leaderboard.secondary_scores import other_names, other_values
from zipeft.leaderboard.trivial import TrivialRow, trivial_row

OVER_ALL = "(mean)"
"""Stands for a data set in the lines of the mean over all of them."""

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a formula may begin with in one spreadsheet or another."""

SCORE_FIELDS = ("mean", "low", "high", "seeds", "rank", "p", "seed_ratio")
FIELDS = (
    *("backbone", "task", "section", "method", "data_set", "metric"),
    *SCORE_FIELDS,
    *(quantity.name for quantity in costs.ALL),
)


def spreadsheet(page: Page) -> str:
    """Return one line a row and data set, and one a row for the mean over them.

    Scores are fractions, ``low`` and ``high`` the ends of the 95 % interval, ``p`` the corrected p-value of the
    comparison with the best row, ``seed_ratio`` the standard error of that difference which seeds cause over the one
    which test examples cause; scores that rank nothing, and those of the trivial answer, have lines with their mean
    alone. Costs are counts, bytes, seconds and operations, those of all data sets with the mean.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    for number, group in enumerate(page.groups, start=1):
        first = group.section.results[0]
        where = {"backbone": first.backbone.name, "task": first.task.name, "section": number}
        machine = reference(group.section.results)
        lines = chain.from_iterable(_lines(row, machine) for row in group.rows)
        for line in (*lines, *_trivial_lines(trivial_row(group.rows))):
            writer.writerow({name: _harmless(value) for name, value in {**where, **line}.items()})
    return buffer.getvalue()


def _lines(row: Row, machine: Machine | None) -> Iterator[dict[str, object]]:
    for dataset, score in row.scores.items():
        yield _line(row, dataset, score, machine)
    if row.mean:
        yield _line(row, OVER_ALL, row.mean, machine)
    for dataset, name in other_names([row]):
        values = other_values(row, dataset, name)
        mean = _plain(fmean(values))
        yield {"method": row.label, "data_set": dataset, "metric": name, "mean": mean, "seeds": len(values)}


def _trivial_lines(row: TrivialRow | None) -> Iterator[dict[str, object]]:
    """Yield the lines of the trivial answer: one a score, and nothing that it costs."""
    if row is None:
        return
    for dataset, trivial in row.found.items():
        for name, value in trivial.test.items():
            yield {"method": row.label, "data_set": dataset, "metric": name, "mean": _plain(value)}


def _line(row: Row, dataset: str, score: Score, machine: Machine | None) -> dict[str, object]:
    results = [result for result in row.results if dataset in (result.task.dataset, OVER_ALL)]
    return {
        "method": row.label,
        "data_set": dataset,
        "metric": " or ".join(sorted({result.task.metric for result in results})),
        **{name: _plain(getattr(score, name)) for name in SCORE_FIELDS},
        **{quantity.name: _plain(quantity.number(quantity.comparable(results, machine))) for quantity in costs.ALL},
    }


def _harmless(value: object) -> object:
    """Return a cell that no spreadsheet takes for a formula: a text that begins like one begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _plain(value: float | None) -> float | None:
    """Return a number without the digits after the sixth decimal, which differ from processor to processor."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, 6)
