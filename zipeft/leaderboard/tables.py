"""Tables of results and the words that explain them, for the end of a run and for the leaderboard alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from zipeft.leaderboard.comparison import (
    BEST,
    LEAST_SEEDS,
    TIED,
    UNKNOWN,
    Estimate,
    Row,
    Section,
    section_differences,
    sections,
    summary_rows,
)
from zipeft.results import Result

DASH = "\N{EN DASH}"
Column = Callable[[Row], str]


def terminal_table(results: Iterable[Result]) -> str:
    """Return the table of a run's results for the terminal, with the meaning of its numbers in the lines below.

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
    return "\n".join([title, table(rows, "simple_outline"), *legend(rows)])


def table(rows: Sequence[Row], fmt: str) -> str:
    """Return rows as a table in one of tabulate's formats; in markdown ("github", "pipe") the best scores are bold."""
    from tabulate import tabulate

    markdown = fmt in ("github", "pipe")
    columns = _columns(rows, bold=markdown)
    cells = [[cell(row) for cell in columns.values()] for row in rows]
    headers = [escape(header) if markdown else header for header in columns]
    return tabulate(
        cells, headers, tablefmt=fmt, disable_numparse=True, colalign=["left", *["right"] * (len(columns) - 1)]
    )


def markdown_table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a markdown table of cells that are markdown already."""
    from tabulate import tabulate

    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def _columns(rows: Sequence[Row], bold: bool) -> dict[str, Column]:
    """Return header and cell of every column, in order."""
    kinds = {result.cost.peak_memory_kind for row in rows for result in row.results}
    return {
        "method": lambda row: escape(row.label) if bold else row.label,
        **{header: _score_column(name, rows, bold) for name, header in dataset_headers(rows).items()},
        "mean": lambda row: _mean_cell(row, bold),
        "trainable\nparameters": lambda row: span(row.costs("trainable_parameters"), count),
        "head\nparameters": lambda row: span(row.costs("head_parameters"), count),
        "adapter\nfile": lambda row: span(row.costs("adapter_bytes"), size),
        "training\ntime": lambda row: duration(row.training_seconds()),
        f"peak memory\n({' or '.join(sorted(kinds))})": lambda row: size(max(row.costs("peak_memory_bytes"))),
    }


def dataset_headers(rows: Sequence[Row]) -> dict[str, str]:
    """Return a header for every data set; it names the metric where data sets have different ones."""
    metrics = {result.task.dataset: result.task.metric for row in rows for result in row.results}
    several = len(set(metrics.values())) > 1
    return {name: f"{name}\n({metrics[name]})" if several else name for name in sorted(metrics)}


def _score_column(dataset: str, rows: Sequence[Row], bold: bool) -> Column:
    best = max(row.scores[dataset].mean for row in rows if dataset in row.scores)

    def cell(row: Row) -> str:
        score = row.scores.get(dataset)
        return _score(score, bold and score is not None and score.mean == best)

    return cell


def _mean_cell(row: Row, bold: bool) -> str:
    return _score(row.mean, bold and row.verdict == BEST) + (" ≈" if row.verdict == TIED else "")


def _score(score: Estimate | None, bold: bool) -> str:
    if score is None:
        return DASH
    text = f"{100 * score.mean:.1f}"
    if score.half_width is not None:
        text += f" ± {100 * score.half_width:.1f}"
    return f"**{text}**" if bold else text


# Words.


def legend(rows: Sequence[Row]) -> list[str]:
    """Return what the scores, the intervals and the marks of a table mean, a sentence each."""
    metrics = sorted({result.task.metric for row in rows for result in row.results})
    seeds = sorted({score.seeds for row in rows for score in row.scores.values()})
    scores = f"Scores are test {' or '.join(metrics)} in percent"
    if seeds == [1]:
        sentences = [f"{scores}, from one seed: no interval can be given."]
    else:
        interval = f"{scores}: mean over seeds ± half the width of its 95 % Student t interval ({_range(seeds)} seeds"
        sentences = [interval + ("; one seed has no interval)." if 1 in seeds else ").")]
    return sentences + _tests(rows)


def _tests(rows: Sequence[Row]) -> list[str]:
    unknown = [row.label for row in rows if row.verdict == UNKNOWN]
    test = "paired t-test over shared seeds, 5 % level"
    sentences = []
    if any(row.verdict == TIED for row in rows):
        sentences.append(f"≈ marks a mean that is not significantly below the best one ({test}).")
    elif len(unknown) < sum(row.mean is not None for row in rows) - 1:
        sentences.append(f"Means without remark are significantly below the best one ({test}).")
    if unknown:
        fewer = f"fewer than {LEAST_SEEDS} seeds shared with the best one"
        sentences.append(
            f"Nothing can be said about the difference from the best mean for {listing(unknown)}: {fewer}."
        )
    return sentences


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def listing(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def escape(text: str) -> str:
    """Return text that markdown shows as it is, on one line."""
    return re.sub(r"([\\`*|<>\[\]])", r"\\\1", " ".join(text.split()))


# Numbers.


def span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Return the smallest and the largest value as 11.2K-32.0K, or one value where they look the same."""
    values = list(values)
    low, high = show(min(values)), show(max(values))
    unit = " " + high.partition(" ")[2]
    return low if low == high else f"{low.removesuffix(unit)}{DASH}{high}"


def count(value: float) -> str:
    """Return a number of parameters as 930, 46.1K, 22.06M or 6.74B."""
    return _scaled(value, (("", 1, 0), ("K", 1e3, 1), ("M", 1e6, 2), ("B", 1e9, 2)))


def size(value: float) -> str:
    """Return a number of bytes as 930 B, 184 kB, 88.2 MB or 1.21 GB, in decimal units."""
    return _scaled(value, ((" B", 1, 0), (" kB", 1e3, 0), (" MB", 1e6, 1), (" GB", 1e9, 2)))


def duration(seconds: float) -> str:
    """Return a time as 0.4 s, 38 s, 2.1 min or 1.5 h."""
    for unit, scale, digits, below in (("s", 1, 1, 9.95), ("s", 1, 0, 59.5), ("min", 60, 1, 59.95)):
        if seconds / scale < below:
            return f"{seconds / scale:.{digits}f} {unit}"
    return f"{seconds / 3600:.1f} h"


def _scaled(value: float, units: Sequence[tuple[str, float, int]]) -> str:
    """Return value in the first unit in which it is shown below 1000."""
    shown = [(f"{value / scale:.{digits}f}", unit) for unit, scale, digits in units]
    return "".join(next((pair for pair in shown if float(pair[0]) < 1000), shown[-1]))
