"""``python -m zipeft.leaderboard``: turn result files into pages, tables and plots for each backbone and task."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError, printable

FORMATS = ("md", "html", "tex", "csv")

EXAMPLES = """\
examples:
  python -m zipeft.leaderboard
      leaderboards/results to leaderboards/*.{md,html,tex,csv} and *.svg
  python -m zipeft.leaderboard sweep1 sweep2 --out web --format html
      the results of two folders together, on pages that need no other file
  python -m zipeft.leaderboard results --out paper --format tex csv
      tables for a paper, and the numbers for other programs

  python -m zipeft.leaderboard results --examples
      puts test images that may be shown beside the results, for this page and later ones

The markdown page shows the plots, so they are written with it; the HTML page holds them.
A file that is no valid result is left out with a warning; zipeft validate checks files by themselves.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 for a mistake in the input."""
    arguments = _parser().parse_args(argv)
    if arguments.examples:
        for path in write_examples(arguments.results):
            print(f"wrote {path}")
    for path in write_pages(arguments.results, arguments.out, arguments.format):
        print(f"wrote {path}")
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "python -m zipeft.leaderboard",
        "Write a leaderboard for every backbone and task in the result files.",
        EXAMPLES,
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
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=FORMATS,
        metavar="FORMAT",
        help=f"what to write: {', '.join(FORMATS)} (default: all)",
    )
    parser.add_argument(
        "--examples",
        action="store_true",
        help="first put test images that may be shown beside the results, from the data",
    )
    return parser


def write_examples(roots: Iterable[Path]) -> list[Path]:
    """Write some test examples of each data set that may be shown beside its results, and return the files' paths.

    The data are taken from where a run takes them, as the newest result has it. Raises ``UserError`` for results whose
    data are not at hand or have changed.
    """
    from zipeft.leaderboard import examples_file
    from zipeft.results import read_results

    newest = {}
    for place, result in sorted(read_results(roots).items(), key=lambda item: item[1].when):
        newest[examples_file.path_beside(place)] = result
    found = {path: examples_file.examples_of(result) for path, result in sorted(newest.items())}
    for path, examples in found.items():
        if examples:
            examples_file.write(path, examples)
    return [path for path, examples in found.items() if examples]


def write_pages(roots: Iterable[Path], out: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the leaderboards of every backbone and task, and return the paths of their files.

    All of them are made before the first is written. A file that is no valid result is left out with a warning on
    stderr. Raises ``UserError`` where there are no results, or a file cannot be written.
    """
    from zipeft.files import write_atomically
    from zipeft.leaderboard.build import load_pages, render

    roots = list(roots)
    for root in roots:
        if not os.path.exists(root):  # Path.exists may raise
            raise UserError(f"no such file or folder: {root}; make results with `python -m zipeft.run`")
    pages, faults = load_pages(roots, out, plots=not {"md", "html"}.isdisjoint(formats))
    for file, fault in faults.items():
        told = printable(f"{file}: {fault}")
        print(f"zipeft: warning: {told}; it is left out (see zipeft validate)", file=sys.stderr)
    if not pages:
        places = ", ".join(map(str, roots))
        raise UserError(f"no valid result files (*.json) of runs in {places}; make some with `python -m zipeft.run`")
    files = {out / name: content for page in pages for name, content in render(page, formats).items()}
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)
