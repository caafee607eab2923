"""``zipeft ls``: the backbones, tasks and methods that are installed, with their settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from zipeft import registry
from zipeft.api.settings import describe
from zipeft.commands.common import ArgumentParser, exit_status
from zipeft.errors import printable

KINDS = ("backbones", "tasks", "methods")


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit status."""
    options = _parser().parse_args(argv)
    print(printable(_listing(options.kind, options.verbose)))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="zipeft ls", description="List the backbones, tasks and methods that are installed.")
    parser.add_argument("kind", nargs="?", choices=KINDS, help="list these alone")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each one's settings and their defaults")
    return parser


def _listing(kind: str | None, verbose: bool) -> str:
    """Return the tables of ``zipeft ls``, for one kind of plug-in or for all."""
    from tabulate import tabulate

    tables = []
    for title in [kind] if kind else KINDS:
        plugins = getattr(registry, title)
        rows = [_row(plugins, row, verbose) for row in plugins.listing()]
        headers = [title, "description", "origin", *(["settings"] if verbose else [])]
        tables.append(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    return "\n\n".join(tables)


def _row(plugins: registry.Registry[Any], row: registry.Listing, verbose: bool) -> list[str]:
    broken = row.error and not row.summary
    cells = [row.name, f"BROKEN: {row.error}" if broken else row.summary, row.origin]
    if verbose:
        cells.append("" if row.error else "\n".join(_settings(plugins.get(row.name))))
    return cells


def _settings(plugin: type) -> list[str]:
    """Return a line for every setting, and for a method's search space."""
    space = getattr(plugin, "space", {})
    return [*describe(plugin), *(f"searched: {name}, {dimension}" for name, dimension in space.items())]


if __name__ == "__main__":
    sys.exit(main())
