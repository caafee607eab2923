"""``zipeft fetch``: get a task's data before it is run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zipeft import registry
from zipeft.api.settings import path
from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import UserError
from zipeft.sources.folder import is_file

EXAMPLES = """\
examples:
  zipeft fetch vtab
      the embedded sets, into the cache
  zipeft fetch vtab --data-dir ~/vtab --set cifar100 --set pets
      published sets, into a folder; given again, it goes on where it was cut off
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each data set, as soon as it is known what came of it, and return the exit status."""
    options = _parser().parse_args(argv)
    name, _, dataset = options.task.partition("/")
    task = registry.tasks.get(name)()
    folder = options.data_dir.absolute() if options.data_dir else None
    if folder and is_file(folder):
        raise UserError(f"{folder} is a file: name a folder with --data-dir")
    for name, outcome in task.fetch(folder, [*filter(None, [dataset]), *options.set]):
        print(f"{name}: {' '.join(outcome.split())}", flush=True)
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft fetch",
        "Get the data of a task, and tell for every data set what was got, what was there already and is "
        "whole, and what cannot be had and how to get it. What is there is not downloaded again.",
        EXAMPLES,
    )
    parser.add_argument("task", metavar="TASK", help="a task, such as vtab, or one set of it, such as vtab/svhn")
    parser.add_argument("--data-dir", type=path, metavar="FOLDER", help="where published data go; made if need be")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME", help="this data set alone; may be given again"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
