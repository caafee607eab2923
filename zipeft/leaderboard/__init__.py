"""``python -m zipeft.leaderboard``: turn result files into one page and one plot for each backbone and task."""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from zipeft.cli import ArgumentParser, exit_status
from zipeft.errors import UserError
from zipeft.files import safe_name, write_atomically
from zipeft.results import Result, read_results

EXAMPLES = """\
examples:
  python -m zipeft.leaderboard                          leaderboards/results to leaderboards/*.md and *.svg
  python -m zipeft.leaderboard sweep1 sweep2 --out web  results of two folders together
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for a mistake in the input."""
    arguments = _parser().parse_args(argv)
    for path in write_pages(arguments.results, arguments.out):
        print(f"wrote {path}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m zipeft.leaderboard",
        description="Write a page (markdown) and a plot (SVG) for every backbone and task in the result files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path("leaderboards")
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        default=[default / "results"],
        metavar="RESULTS",
        help="result files, or folders of them (default: leaderboards/results)",
    )
    parser.add_argument(
        "--out", type=Path, default=default, metavar="DIR", help="where to write (default: %(default)s)"
    )
    return parser


def write_pages(roots: Iterable[Path], out: Path) -> list[Path]:
    """Write a page and a plot for every backbone and task, and return their paths.

    All of them are made before the first is written. Raises ``UserError`` where there are no results, a result file
    is broken, or a file cannot be written.
    """
    roots = list(roots)
    for root in roots:
        if not os.path.exists(root):  # Path.exists may raise
            raise UserError(f"no such file or folder: {root}; make results with `python -m zipeft.run`")
    results = read_results(roots)
    if not results:
        places = ", ".join(map(str, roots))
        raise UserError(f"no result files (*.json) in {places}; make some with `python -m zipeft.run`")
    files: dict[Path, bytes] = {}
    for name, group in _pages(results).items():
        text, plot = _render(name, group, out)
        files |= {out / f"{name}.md": text.encode(), out / f"{name}.svg": plot}
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def _pages(results: Mapping[Path, Result]) -> dict[str, dict[Path, Result]]:
    """Return the results of every page by its name."""
    pages: dict[str, dict[Path, Result]] = defaultdict(dict)
    for path, result in results.items():
        pages[f"{safe_name(result.backbone.name)}-{safe_name(result.task.name)}"][path] = result
    for name, group in pages.items():
        if len(pairs := sorted({(result.backbone.name, result.task.name) for result in group.values()})) > 1:
            raise UserError(f"two pages would be called {name}: {pairs[0]} and {pairs[1]}; write them to two folders")
    return dict(sorted(pages.items()))


def _render(name: str, results: Mapping[Path, Result], out: Path) -> tuple[str, bytes]:
    """Return the page's text and its plot."""
    from zipeft.leaderboard.comparison import sections, summary_rows
    from zipeft.leaderboard.page import heading, markdown, title
    from zipeft.leaderboard.plots import Panel, svg

    links = {id(result): quote(Path(os.path.relpath(path, out)).as_posix()) for path, result in results.items()}
    groups = sections(results.values())
    panels = []
    for index, group in enumerate(groups):
        suffix = f", {heading(groups, index).lower()}" if len(groups) > 1 else ""
        panels.append(Panel(title(group.results[0]) + suffix, summary_rows(group.results)))
    return markdown(name, groups, links), svg(panels)
