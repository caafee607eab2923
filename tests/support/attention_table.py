"""The tables of docs/attention-classes.md, made of the lines that ``measure_attention.py`` has written beside it."""

from __future__ import annotations

import csv
from collections import Counter

from support import ROOT

FILE = ROOT / "docs" / "attention-classes.tsv"
COLUMNS = {
    "library": "library",
    "model": "model",
    "result": "result",
    "layers": "layers",
    "start": "frozen at the start",
    "tokens": "as own tokens",
    "learns": "learns",
    "saves": "saves and loads",
    "bf16": "bf16",
    "checkpointing": "checkpointing",
    "cache": "cache",
}


def rows() -> list[dict[str, str]]:
    """Return the measured models, each by the names of the file's columns."""
    with FILE.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def table(name: str) -> str:
    """Return the table "attention, counts", "attention, joined" or "attention, refused"."""
    what = name.partition(", ")[2]
    if what == "counts":
        results = ("joins", "joins a part", "refused", "cannot be built", "wrong")
        count = Counter((row["library"], row["result"]) for row in rows())
        libraries = sorted({row["library"] for row in rows()})
        lines = [[library, *(count[library, result] for result in results)] for library in libraries]
        lines.append(["all", *(sum(count[library, result] for library in libraries) for result in results)])
        return _table(["library", *results], lines)
    if what == "joined":
        found = [row for row in rows() if row["result"].startswith(("joins", "wrong"))]
        return _table(COLUMNS.values(), [[row[column] for column in COLUMNS] for row in found])
    if what == "refused":
        found = [row for row in rows() if row["why"]]
        columns = ("library", "model", "result", "why")
        return _table(columns, [[row[column] for column in columns] for row in found])
    raise ValueError(f"there is no table {name!r}")


def _table(header, lines) -> str:
    cells = [list(header), [":--" for _ in header], *lines]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)
