"""From result files to pages, and from pages to files."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from zipeft.errors import UserError
from zipeft.files import safe_name
from zipeft.leaderboard import examples_file
from zipeft.leaderboard.blocks import Figure
from zipeft.leaderboard.page import Group, Page, heading, title
from zipeft.leaderboard.plots import curves, scatter
from zipeft.leaderboard.plots.style import svg
from zipeft.leaderboard.ranking import summary_rows
from zipeft.leaderboard.render.csv_file import spreadsheet
from zipeft.leaderboard.render.html import html
from zipeft.leaderboard.render.latex import latex
from zipeft.leaderboard.render.markdown import markdown
from zipeft.leaderboard.sections import sections
from zipeft.results import Failure, Place, Record, Result, read_records
from zipeft.results.archive import Line

WRITERS = {"md": markdown, "html": html, "tex": latex, "csv": spreadsheet}


def load_pages(roots: Iterable[Path], out: Path, plots: bool = True) -> tuple[list[Page], dict[Place, str]]:
    """Return the pages of the runs in files and folders, and what is wrong with files that are left out.

    ``out`` is the folder from which pages link to results. Raises ``UserError`` where two pages would have one name.
    """
    records, faults = read_records(roots)
    by_name: dict[str, dict[Place, Record]] = defaultdict(dict)
    for place, record in records.items():
        by_name[f"{safe_name(record.backbone.name)}-{safe_name(record.task.name)}"][place] = record
    pages = []
    for name, group in sorted(by_name.items()):
        if len(pairs := sorted({(record.backbone.name, record.task.name) for record in group.values()})) > 1:
            raise UserError(f"two pages would be called {name}: {pairs[0]} and {pairs[1]}; write them to two folders")
        if any(isinstance(record, Result) for record in group.values()):
            pages.append(_page(name, group, out, plots, len(faults)))
    return pages, faults


def _page(name: str, records: Mapping[Place, Record], out: Path, plots: bool, left_out: int) -> Page:
    results = {place: record for place, record in records.items() if isinstance(record, Result)}
    links = {id(result): _address(place, out) for place, result in results.items()}
    found = sections(results.values())
    groups = [
        Group(heading(len(found), index), section, summary_rows(section.results)) for index, section in enumerate(found)
    ]
    done = {result.id for result in results.values()}
    failures = {r.id: r for r in records.values() if isinstance(r, Failure) and r.of == Result.kind}
    missing = [failures[id] for id in sorted(failures.keys() - done)]
    files = sorted({path for place in results if (path := examples_file.path_beside(place)).exists()})
    examples = [examples_file.read(path) for path in files]
    return Page(name, groups, links, _figures(name, groups) if plots else (), missing, left_out, examples)


def _address(place: Place, out: Path) -> str:
    """Return the address of a record on pages in ``out``. A line of an archive has the one that code hosts give it."""
    file, line = (place.archive, f"#L{place.number}") if isinstance(place, Line) else (place, "")
    return quote(Path(os.path.relpath(file, out)).as_posix()) + line


def _figures(name: str, groups: Sequence[Group]) -> list[Figure]:
    about = title(groups[0].section.results[0])
    suffixes = {group.heading: f", {group.heading.lower()}" if len(groups) > 1 else "" for group in groups}
    panels = [scatter.Panel(about + suffixes[group.heading], group.rows) for group in groups]
    losses = [(f"{group.heading}: " if len(groups) > 1 else "", group.rows) for group in groups]
    figures = [
        Figure(
            f"{name}-{end}.svg",
            svg(scatter.scatter(panels, axis)),
            f"Scores against {axis.words}",
            scatter.caption(axis),
        )
        for end, axis in scatter.AXES.items()
    ]
    return [*figures, Figure(f"{name}-loss.svg", svg(curves.loss_figure(losses)), "Training loss", curves.CAPTION)]


def render(page: Page, formats: Sequence[str]) -> dict[str, bytes]:
    """Return the content of a page's files by name; the plots come with the markdown page, which shows them."""
    files = {f"{page.name}.{end}": write(page).encode() for end, write in WRITERS.items() if end in formats}
    return files | ({figure.file: figure.svg for figure in page.figures} if "md" in formats else {})
