"""Tables of results as cells, which every format shows in its own way, and as text for the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from zipeft.api.task import Average
from zipeft.formatting import DASH, percent
from zipeft.leaderboard import costs
from zipeft.leaderboard.blocks import DOWN, Cell, Column, Table
from zipeft.leaderboard.costs import Quantity
from zipeft.leaderboard.legend import legend
from zipeft.leaderboard.machines import numbered, on, reference
from zipeft.leaderboard.ranking import TIED, Row, Score, average_columns, summary_rows
from zipeft.leaderboard.secondary_scores import other_table
from zipeft.leaderboard.sections import Section, section_differences, sections
from zipeft.leaderboard.task_of_page import task_of
from zipeft.leaderboard.trivial import meaning, trivial_row
from zipeft.results import Result


def main_table(rows: Sequence[Row]) -> Table:
    """Return scores, ranks and the costs that matter most."""
    columns = _score_columns(rows)
    machine = reference([result for row in rows for result in row.results])
    cells = [
        [Cell(row.label, value=row.label) for row in rows],
        [_rank(row.mean) for row in rows],
        *(_scores(column.scores) for column in columns),
        *(_costs(quantity, [quantity.comparable(row.results, machine) for row in rows]) for quantity in costs.MAIN),
    ]
    body = [*zip(*cells, strict=True), *_trivial(rows, columns)]
    named = [Column("method", numeric=False), Column("rank")]
    named += [Column(column.header, first=DOWN) for column in columns]
    named += [Column(quantity.header) for quantity in costs.MAIN]
    return Table(named, body, "Scores", sorted_by=1 + len(columns))


class ScoreColumn(NamedTuple):
    """A score a row, or None; ``weights`` say of which data sets it is the mean."""

    header: str
    scores: Sequence[Score | None]
    weights: Mapping[str, float]


def _score_columns(rows: Sequence[Row]) -> list[ScoreColumn]:
    """Return the data sets and, where there are several, what ``_average_columns`` adds."""
    datasets = dataset_headers(rows)
    columns = [
        ScoreColumn(header, [row.scores.get(name) for row in rows], {name: 1.0}) for name, header in datasets.items()
    ]
    return [*columns, *_average_columns(rows, list(datasets))] if len(datasets) > 1 else columns


def _average_columns(rows: Sequence[Row], datasets: Sequence[str]) -> list[ScoreColumn]:
    """Return data sets that only averages name, the averages, and last the mean that ranks, each with its header."""
    task = task_of(result for row in rows for result in row.results)
    averages = [each for each in (task.averages if task else ()) if each.weights.keys() & set(datasets)]
    ranking = next((each for each in averages if _is_mean_of(each, datasets)), None)
    missing = {name: None for each in averages for name in each.weights if name not in datasets}
    mean = ranking.name if ranking else f"mean of {len(datasets)} sets" if averages else "mean"
    averages = [each for each in averages if each is not ranking]
    found = average_columns(rows, averages)
    return [
        *(ScoreColumn(name, [None] * len(rows), {name: 1.0}) for name in missing),
        *(
            ScoreColumn(each.name, [own.get(row.label) for row in rows], each.weights)
            for each, own in zip(averages, found, strict=True)
        ),
        ScoreColumn(mean, [row.mean for row in rows], dict.fromkeys(datasets, 1 / len(datasets))),
    ]


def _trivial(rows: Sequence[Row], columns: Sequence[ScoreColumn]) -> list[list[Cell]]:
    """Return the last row, where there is one: it has neither rank nor cost."""
    row = trivial_row(rows)
    if row is None:
        return []
    values = [row.score(column.weights) for column in columns]
    scores = [Cell(DASH) if value is None else Cell(percent(value), value=value) for value in values]
    return [[Cell(row.label, value=row.label), Cell(DASH), *scores, *[Cell(DASH)] * len(costs.MAIN)]]


def _is_mean_of(average: Average, datasets: Sequence[str]) -> bool:
    """Return whether an average is the mean that ranks: that of all data sets, with equal weights."""
    return average.weights.keys() == set(datasets) and len(set(average.weights.values())) == 1


def cost_table(rows: Sequence[Row], quantities: Sequence[Quantity] = costs.ALL) -> Table:
    """Return costs of every row, those that any run has measured; with several machines, a line for each of a row's."""
    machines = numbered([result for row in rows for result in row.results])
    lines = [(row.label, each, own) for row in rows for each in machines if (own := on(each, row.results))]
    quantities = [quantity for quantity in quantities if any(quantity.number(own) is not None for *_, own in lines)]
    cells = [
        [Cell(label, value=label) for label, *_ in lines],
        *([[Cell(str(machines[each]), value=machines[each]) for _, each, _ in lines]] if len(machines) > 1 else []),
        *(_costs(quantity, [own for *_, own in lines]) for quantity in quantities),
    ]
    columns = [Column("method", numeric=False), *([Column("machine")] if len(machines) > 1 else [])]
    columns += [Column(quantity.header) for quantity in quantities]
    return Table(columns, list(zip(*cells, strict=True)), "What it costs")


def text_table(
    headers: Sequence[str], rows: Iterable[Sequence[str | Cell]], caption: str, folded: bool = False
) -> Table:
    """Return a table of words, as they are."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell, value=_number(cell)) for cell in row] for row in rows]
    return Table([Column(header, numeric=False) for header in headers], cells, caption, folded=folded)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def dataset_headers(rows: Sequence[Row]) -> dict[str, str]:
    """Return a header for every data set; it names the metric where data sets have different ones."""
    metrics = {result.task.dataset: result.task.metric for row in rows for result in row.results}
    several = len(set(metrics.values())) > 1
    return {name: f"{name}\n({metrics[name]})" if several else name for name in sorted(metrics)}


def _rank(score: Score | None) -> Cell:
    return Cell(str(score.rank), value=score.rank) if score and score.rank else Cell(DASH)


def _scores(column: Sequence[Score | None]) -> list[Cell]:
    best = max((score.mean for score in column if score), default=None)
    return [_score(score, best) if score else Cell(DASH) for score in column]


def _score(score: Score, best: float | None) -> Cell:
    interval = ""
    if score.low is not None and score.high is not None:
        interval = f"({percent(score.low)}, {percent(score.high)})"
    detail = f"{interval}{' ≈' if score.verdict == TIED else ''}".strip()
    return Cell(percent(score.mean), detail, score.mean, score.mean == best)


def _costs(quantity: Quantity, runs: Sequence[Sequence[Result]]) -> list[Cell]:
    return [Cell(quantity.text(own), quantity.remark(own), quantity.number(own)) for own in runs]


# As text.


def tabulated(table: Table, fmt: str, show: Callable[[Cell], str] = str, header: Callable[[str], str] = str) -> str:
    """Return a table in one of tabulate's formats; ``show`` and ``header`` give the text of cells and headers."""
    from tabulate import tabulate

    return tabulate(
        [[show(cell) for cell in row] for row in table.rows],
        [header(column.header) for column in table.columns],
        tablefmt=fmt,
        disable_numparse=True,
        colalign=["right" if column.numeric else "left" for column in table.columns] if table.rows else None,
    )


def terminal_table(results: Iterable[Result]) -> str:
    """Return the tables of a run's results for the terminal, with the meaning of the numbers in the lines below.

    Results that may not be compared come in tables of their own, under a line that says what differs.
    """
    groups = sections(results)
    return "\n\n".join(_terminal_section(group, groups[0]) for group in groups)


def _terminal_section(section: Section, first: Section) -> str:
    rows = summary_rows(section.results)
    run = section.results[0]
    title = f"{run.backbone.name} on {run.task.name}, {run.protocol['preset']} preset"
    if section is not first:
        title += f" (not comparable with the first table: {'; '.join(section_differences(first, section))})"
    parts = [title, _as_text(main_table(rows)), *legend(rows), *meaning(rows)]
    if others := other_table(rows):
        parts += ["", "Other scores", _as_text(others)]
    return "\n".join([*parts, "", "What it costs", _as_text(cost_table(rows))])


def _as_text(table: Table) -> str:
    return tabulated(table, "simple_outline")
