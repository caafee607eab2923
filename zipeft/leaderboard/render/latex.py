"""A page's tables for a paper, in LaTeX with the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zipeft.formatting import DASH
from zipeft.leaderboard import costs, trivial
from zipeft.leaderboard.blocks import Cell, Table
from zipeft.leaderboard.legend import BOLD, legend
from zipeft.leaderboard.page import Group, Page
from zipeft.leaderboard.secondary_scores import meaning, other_table
from zipeft.leaderboard.tables import cost_table, main_table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "≈": r"$\approx$",
    DASH: "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "&%$#_"},
}


def latex(page: Page) -> str:
    """Return the tables of the page's sections, each with what its numbers mean, to be read in with \\input."""
    parts = ["% Needs \\usepackage{booktabs}. Made by python -m zipeft.leaderboard; do not edit."]
    for group in page.groups:
        results = group.section.results
        said = f"{page.title}, {results[0].protocol['preset']} preset, {group.heading.lower()}."
        cost = [f"{page.title}: what it costs.", *costs.meaning(results)]
        others = [quantity for quantity in costs.ALL if quantity not in costs.MAIN]  # all of them are too wide
        caption = [said, *legend(group.rows), BOLD, *trivial.meaning(group.rows)]
        parts.append(_float(main_table(group.rows), caption, _label(page, group, "scores")))
        if scores := other_table(group.rows):
            others_caption = f"{page.title}: other scores. {meaning(group.rows)}"
            parts.append(_float(scores, [others_caption], _label(page, group, "others")))
        parts.append(_float(cost_table(group.rows, others), cost, _label(page, group, "costs")))
    return "\n\n".join(parts) + "\n"


def _label(page: Page, group: Group, kind: str) -> str:
    number = "" if len(page.groups) == 1 else f"-{page.groups.index(group) + 1}"
    return f"tab:{page.name}{number}-{kind}"


def escape(text: str) -> str:
    """Return text that LaTeX sets as it is, on one line."""
    return re.sub("|".join(map(re.escape, SPECIAL)), lambda found: SPECIAL[found[0]], " ".join(text.split()))


def _float(table: Table, sentences: Sequence[str], label: str) -> str:
    """Return a table as a float, its caption above as journals want it."""
    # Narrow gaps and small type: the tables are as wide as a page's text.
    rows = [" & ".join(map(_cell, row)) + r" \\" for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escape(' '.join(sentences))}}}",
            rf"\label{{{label}}}",
            r"\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{@{{}}{''.join('r' if column.numeric else 'l' for column in table.columns)}@{{}}}}",
            r"\toprule",
            *_headers(table),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _headers(table: Table) -> list[str]:
    """Return the lines of the header, which a column's words fill from above."""
    broken = [column.header.split("\n") for column in table.columns]
    depth = max(map(len, broken))
    lines = zip(*([*words, *[""] * (depth - len(words))] for words in broken), strict=True)
    return [" & ".join(map(escape, line)) + r" \\" for line in lines]


def _cell(cell: Cell) -> str:
    text = rf"\textbf{{{escape(cell.text)}}}" if cell.best else escape(cell.text)
    return rf"{text} {{\tiny {escape(cell.detail)}}}" if cell.detail else text
