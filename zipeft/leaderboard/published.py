"""What others published, in tables of its own, with what was measured on the same data sets in the same columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from zipeft.formatting import DASH, percent, score_text
from zipeft.leaderboard.blocks import Block, Cell, Heading, Paragraph, Table
from zipeft.leaderboard.ranking import Row, average_columns
from zipeft.leaderboard.tables import text_table
from zipeft.leaderboard.task_of_page import task_of
from zipeft.results import Result

if TYPE_CHECKING:
    from zipeft.api.task import PublishedTable, Task

APART = "Published elsewhere, on other data and another backbone: not comparable with the rows above"
BESIDE = "Published elsewhere, and what was measured here"
MEANING = (
    "Rows that are marked as measured are those above, on data sets of the same name: means over seeds, a dash where "
    "nothing was measured. None is ranked with a published one: backbones, splits and selection may differ, as sources "
    "and What was compared say."
)
MEASURED = "{}, measured"

ANY = "*"
"""A column of whatever data set a page has, if it has one: where a folder of the user's names it."""


def published(rows: Sequence[Row]) -> Iterator[Block]:
    """Yield the published tables of the rows' task, with the rows in those that have columns for their data sets."""
    results = [result for row in rows for result in row.results]
    task = task_of(results)
    if task is None:
        name = results[0].task.name
        yield Paragraph(f"Results that others published are left out: the task plug-in {name} cannot be loaded here.")
    elif task.published:
        measured = [list(measured_rows(table, rows, task)) for table in task.published]
        yield Heading(BESIDE if any(measured) else APART)
        if any(measured):
            yield Paragraph(MEANING)
        for table, own in zip(task.published, measured, strict=True):
            yield Paragraph(f". Source: {table.source.rstrip('.')}.", lead=table.title)
            yield _table(table, own)


def _table(table: PublishedTable, measured: Sequence[Sequence[Cell]]) -> Table:
    rows: list[Sequence[str | Cell]] = [(method, *values) for method, values in table.rows.items()]
    return text_table(["method", *table.columns], [*measured, *rows], table.title)


def measured_rows(table: PublishedTable, rows: Sequence[Row], task: type[Task]) -> Iterator[list[Cell]]:
    """Yield a line of cells for each row that has a number for a column of a published table."""
    datasets = sorted({result.task.dataset for row in rows for result in row.results})
    measures = [_measure(each, datasets) for each in table.measures or map(_named, table.columns)]
    of_averages = dict(zip((each.name for each in task.averages), average_columns(rows, task.averages), strict=True))
    for row in rows:
        numbers = [_number(row, *measure, table.split) for measure in measures]
        if not table.measures:
            averages = [of_averages.get(column, {}).get(row.label) for column in table.columns]
            pairs = zip(numbers, averages, strict=True)
            numbers = [score.mean if number is None and score else number for number, score in pairs]
        if any(number is not None for number in numbers):
            label = MEASURED.format(row.label)
            cells = [_cell(name, number) for number, (_, name) in zip(numbers, measures, strict=True)]
            yield [Cell(label, value=label), *cells]


def _cell(name: str, number: float | None) -> Cell:
    """Return a score as a cell, in percent as a rule; without a name it is a metric."""
    if number is None:
        return Cell(DASH)
    text = score_text(name, number) if name else percent(number)
    return Cell(text, value=float(text))


def _named(column: str) -> str:
    """Return the data set that a column is named after, if it is."""
    return column.lower().replace(" ", "-")


def _measure(text: str, datasets: Sequence[str]) -> tuple[str, str]:
    """Return the data set and the score of what a column measures; no score stands for the data set's metric."""
    dataset, _, name = text.partition("/")
    return (datasets[0] if dataset == ANY and len(datasets) == 1 else dataset), name


def _number(row: Row, dataset: str, name: str, split: str) -> float | None:
    """Return the mean over a row's seeds of a score on a data set; None if no run has it."""
    own = [result for result in row.results if result.task.dataset == dataset]
    values = [
        scores[key] for result in own if (key := name or result.task.metric) in (scores := _scores(result, split))
    ]
    return fmean(values) if values else None


def _scores(result: Result, split: str) -> Mapping[str, float]:
    return result.validation if split == "validation" else result.test
