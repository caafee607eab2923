"""``zipeft pull``: get an adapter from the Hugging Face hub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from zipeft.commands.common import ArgumentParser, command_parser, exit_status
from zipeft.errors import printable

EXAMPLES = """\
examples:
  zipeft pull owner/name --out adapter
  zipeft evaluate adapter
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Download one adapter, say what it is for, and return the exit status."""
    options = _parser().parse_args(argv)
    from zipeft.adapters.hub import pull
    from zipeft.adapters.saved import read_record

    record = read_record(pull(options.repository, options.out, revision=options.revision))
    backbone, method, task = record.backbone, record.method, record.task
    told = f"{options.out}: {method.name} on {backbone.name} ({backbone.checkpoint}), for {task.name}"
    print(printable(told))  # it is another one's record
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft pull",
        "Get an adapter that zipeft push published: three files, of which none is run when it is loaded.",
        EXAMPLES,
    )
    parser.add_argument("repository", metavar="OWNER/NAME", help="where it is on the hub")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder for it")
    parser.add_argument("--revision", metavar="COMMIT", help="a commit, branch or tag (default: the newest)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
