"""``zipeft pack``: put the records of each data set into one file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError
from zipeft.formatting import counted

EXAMPLES = """\
examples:
  zipeft pack results
      results/vit-fgvc/icons/*.json to results/vit-fgvc/icons.jsonl, and so on for every data set

Every command reads the archives as it reads the files. New results are written as files beside them; pack again to add
those.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Pack the records of a results folder, say what was written, and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.results import Store
    from zipeft.results.packing import pack

    if not options.results.is_dir():
        raise UserError(f"no such folder: {options.results}; make results with `python -m zipeft.run`")
    written = False
    for archive, records in pack(Store(options.results)):
        print(f"wrote {archive}: {counted(records, 'record')}")
        written = True
    if not written:
        print(f"nothing to pack: no result files (*.json) in the folders of data sets in {options.results}")
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft pack",
        "Put the records of each data set into one file of JSON lines, in the order of their ids, and "
        "delete their own files. Results that many people read are easier to keep so.",
        EXAMPLES,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of results, as --results has it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
