"""``zipeft validate``: check result files, and print the JSON Schema that they satisfy."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError, printable
from zipeft.formatting import counted

if TYPE_CHECKING:
    from zipeft.results import Place

SOME_INVALID = 1

EXAMPLES = """\
examples:
  zipeft validate
      check everything in results/
  zipeft validate leaderboards/results results/vit-fgvc/icons
      check other folders; or single files
  zipeft validate --schema > result.schema.json
      the JSON Schema (draft 2020-12), for readers in other languages
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Check files, print a line for each that is not valid and a summary, and return the exit status."""
    options = _parser().parse_args(argv)
    if options.schema:
        from zipeft.results import json_schema

        print(json_schema.text(), end="")
        return 0
    for root in options.results:
        if not os.path.exists(root):  # Path.exists may raise
            raise UserError(f"no such file or folder: {root}; make results with `python -m zipeft.run`")
    counts, faults = check(options.results)
    for place, fault in faults.items():
        print(printable(f"{place}: {fault}"))
    valid = ", ".join(counted(counts[kind], kind) for kind in ("run", "trial", "failure"))
    print(f"valid: {valid}; not valid: {counted(len(faults), 'file')}")
    return SOME_INVALID if faults else 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft validate",
        "Check result files: layout, contradictions, edits by hand, names, and duplicates. "
        "The exit status is 0 if all are valid, 1 if any is not, and 2 if there is no such file.",
        EXAMPLES,
    )
    parser.add_argument(
        "results",
        nargs="*",
        type=Path,
        default=[Path("results")],
        metavar="RESULTS",
        help="result files, or folders of them (default: results)",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of result files, and no more")
    return parser


def check(roots: Iterable[Path]) -> tuple[Counter[str], dict[Place, str]]:
    """Return how many records of each kind are valid, and for each other place one line of why it is not."""
    from zipeft.results.reading import places

    counts: Counter[str] = Counter()
    faults: dict[Place, str] = {}
    first: dict[tuple[str, str], Place] = {}
    for place in places(roots):
        try:
            kind, id = _check(place)
            if (kind, id) in first:
                raise UserError(f"has the id of {first[kind, id]}; keep one of them")
        except UserError as error:
            faults[place] = str(error)
        else:
            first[kind, id] = place
            counts[kind] += 1
    return counts, faults


def _check(place: Place) -> tuple[str, str]:
    """Return kind and id of the record in a place. Raises ``UserError`` for a fault, without the place."""
    from zipeft.results.reading import read_content
    from zipeft.results.record import from_json
    from zipeft.results.store import check_place

    content = read_content(place)
    record = from_json(content)
    check_place(place, record, content["id"])
    return record.kind, record.id


if __name__ == "__main__":
    sys.exit(main())
