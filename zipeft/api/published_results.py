"""Tables of published results, read from the TOML file beside a task."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zipeft.api.task import PublishedTable

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_published(file: Path) -> tuple[PublishedTable, ...]:
    """Return the tables of a TOML file, each a ``[[table]]`` whose keys are the fields of ``PublishedTable``.

    A row maps a method to its values, one a column, as a text with blanks between them. Raises ``ValueError`` for a
    row of another length, and for ``measures`` of another one.
    """
    return tuple(_table(entry) for entry in tomllib.loads(file.read_text("utf-8"))["table"])


def _table(entry: Mapping[str, Any]) -> PublishedTable:
    rows = {method: tuple(values.split()) for method, values in entry["rows"].items()}
    for method, values in rows.items():
        if len(values) != len(entry["columns"]):
            raise ValueError(f"{method} has {len(values)} values for {len(entry['columns'])} columns")
    table = PublishedTable(**{**entry, "rows": rows, "columns": tuple(entry["columns"])})
    if table.measures and len(table.measures) != len(table.columns):
        raise ValueError(
            f"{table.title} says of {len(table.measures)} columns what is measured, of {len(table.columns)}"
        )
    return table
