"""``zipeft compare``: what moved between two sets of results, and whether beyond noise."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import printable

MOVED = 1

EXAMPLES = """\
examples:
  zipeft compare leaderboards/results results
      the rows of two folders; archives, and single files, are taken too
  zipeft compare results@a8090bc results@74c4c3e
      the records of one folder that were made at two commits of zipeft; results@0.1.0 are those of a version
  zipeft compare HEAD~20:leaderboards/results leaderboards/results
      a folder as it stood in a revision of this git repository, and as it is now
  zipeft compare old new --json > moved.json
      the same for other programs

A method on a data set is paired with itself where all that decides its score is the same, but for the version of the
software: by the hash by which boards tell what may be compared. The exit status is 1 if a score moved beyond noise, and
2 for a mistake in the input.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Compare two sets of results, print what moved, and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.leaderboard import movement_page
    from zipeft.leaderboard.movement import movement
    from zipeft.leaderboard.render.markdown import document
    from zipeft.results.selection import select

    names = (options.before, options.after)
    found = movement(*map(select, names))
    if options.json:
        print(json.dumps(movement_page.as_json(found, names), indent=1, allow_nan=False))
    else:
        print(printable(document("What moved", movement_page.page(found, names))), end="")
    return MOVED if movement_page.moved(found) else 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft compare",
        "Say of each method on each data set how its score and its costs moved between two sets of results, with "
        "paired intervals, as a page of markdown.",
        EXAMPLES,
    )
    what = "a folder or file of results, FOLDER@COMMIT, FOLDER@VERSION, or REVISION:FOLDER"
    parser.add_argument("before", metavar="BEFORE", help=what)
    parser.add_argument("after", metavar="AFTER", help="another one")
    parser.add_argument("--json", action="store_true", help="print JSON, scores as fractions, in place of the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
