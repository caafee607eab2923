"""How the results of a benchmark are shown: its own table, then those that others published, the measured row first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zipeft.api.task import PublishedTable
from zipeft.benchmarks.benchmark import Benchmark, Results
from zipeft.formatting import DASH


def report(benchmark: Benchmark, results: Results, model: str) -> str:
    """Return Markdown: the tables, with what is to be known of them; ``model`` names what was measured."""
    own = _table(results.table[0], results.table[1:])
    beside = [_beside(table, results.totals, model) for table in benchmark.published()]
    return "\n\n".join([own, " ".join([benchmark.counts, *results.notes]), *beside])


def _beside(table: PublishedTable, measured: Mapping[str, float | None], model: str) -> str:
    values = [measured.get(column) for column in table.columns]
    own = (f"{model} (measured)", *(DASH if value is None else f"{value:.1f}" for value in values))
    rows = [own, *((name, *published) for name, published in table.rows.items())]
    return f"{table.title}, published beside it\n\n{_table(['model', *table.columns], rows)}\n\nSource: {table.source}."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from tabulate import tabulate

    align = ("left", *["right"] * (len(header) - 1))
    return tabulate(rows, headers=header, tablefmt="github", colalign=align, disable_numparse=True)
