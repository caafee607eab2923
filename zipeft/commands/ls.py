"""``zipeft ls``: the backbones, tasks, methods and splices that are installed, with their settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

from zipeft import registry
from zipeft.api.settings import describe
from zipeft.commands.common import ArgumentParser, exit_status
from zipeft.errors import UserError, did_you_mean, printable

KINDS = ("backbones", "tasks", "methods")
"""What is listed where nothing is named. Splices are not: they import torch, and have no settings."""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and return the exit status."""
    options = _parser().parse_args(argv)
    print(printable(_listing(options.kind, options.pattern, options.verbose)))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="zipeft ls", description="List the plug-ins that are installed.")
    parser.add_argument("kind", nargs="?", choices=(*KINDS, "splices"), help="list these alone")
    parser.add_argument("pattern", nargs="?", default="*", help="and of these the names that match, such as 'zero*'")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each one's settings and their defaults")
    return parser


def _listing(kind: str | None, pattern: str, verbose: bool) -> str:
    """Return the tables of ``zipeft ls``, for one kind of plug-in or for all.

    Raises ``UserError`` where no name matches the pattern.
    """
    from tabulate import tabulate

    tables = []
    for title in [kind] if kind else KINDS:
        plugins = getattr(registry, title)
        listed = sorted(plugins.listing(pattern), key=lambda row: _family(plugins, row))
        families = [[_family(plugins, row)] if title == "methods" else [] for row in listed]
        rows = [_row(plugins, row, family, verbose) for row, family in zip(listed, families, strict=True)]
        if pattern != "*" and not rows:
            raise UserError(f"no {plugins.kind} matches {pattern!r}{did_you_mean(pattern, plugins.names())}")
        family = ["family"] if title == "methods" else []
        headers = [title, *family, "description", "origin", *(["settings"] if verbose else [])]
        tables.append(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True))
    return "\n\n".join(tables)


def _family(plugins: registry.Registry[Any], row: registry.PluginInfo) -> str:
    """Return the family of a method, by which methods are listed; "" for other plug-ins and for a broken one."""
    return "" if row.error else getattr(plugins.get(row.name), "family", "")


def _row(plugins: registry.Registry[Any], row: registry.PluginInfo, family: Sequence[str], verbose: bool) -> list[str]:
    broken = row.error and not row.summary
    cells = [row.name, *family, f"BROKEN: {row.error}" if broken else row.summary, row.origin]
    if verbose:
        cells.append("" if row.error else "\n".join(_settings(plugins.get(row.name))))
    return cells


def _settings(plugin: type) -> list[str]:
    """Return a line for every setting, and for a method's search space."""
    space = getattr(plugin, "space", {})
    settings = describe(plugin) if is_dataclass(plugin) else []
    return [*settings, *(f"searched: {name}, {dimension}" for name, dimension in space.items())]


if __name__ == "__main__":
    sys.exit(main())
