"""Make the leaderboards again from the committed results, and fail where the committed files differ."""

from __future__ import annotations

import difflib
import shutil
import sys
import tempfile
from pathlib import Path

from zipeft.commands import leaderboard

COMMITTED = Path(__file__).resolve().parents[1] / "leaderboards"
ENDS = (*(f".{name}" for name in leaderboard.FORMATS), ".svg")
MOST_LINES = 20
"""Lines of a difference to show: a plot has thousands."""


def texts(folder: Path) -> dict[str, str]:
    """Return the text of every leaderboard's file by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.suffix in ENDS}


def differences(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """Return the lines of a diff by name, for every file that differs or is only in one of the two."""
    found = {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            old, new = (side.get(name, "").splitlines() for side in (before, after))
            lines = difflib.unified_diff(old, new, f"committed/{name}", f"made again/{name}", lineterm="")
            found[name] = list(lines)
    return found


def report(before: dict[str, str], after: dict[str, str]) -> int:
    """Print which files differ and how, and return the exit status."""
    found = differences(before, after)
    for lines in found.values():
        print(*lines[:MOST_LINES], sep="\n")
        if len(lines) > MOST_LINES:
            print(f"... and {len(lines) - MOST_LINES} lines more")
    for name in found:
        state = (
            "differs" if name in before and name in after else "is not committed" if name in after else "is left over"
        )
        print(f"{name} {state}")
    print(f"{len(after)} files made again, {len(found)} differ from the committed ones")
    return 1 if found else 0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "leaderboards"
        results = shutil.copytree(COMMITTED / "results", made / "results")  # pages link to results beside them
        if status := leaderboard.main([str(results), "--out", str(made)]):
            return status
        return report(texts(COMMITTED), texts(made))


if __name__ == "__main__":
    sys.exit(main())
