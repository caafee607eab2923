"""Make the leaderboards again from the committed results, and fail where the committed pages differ."""

from __future__ import annotations

import difflib
import shutil
import sys
import tempfile
from pathlib import Path

from zipeft import leaderboard

COMMITTED = Path(__file__).resolve().parents[1] / "leaderboards"


def pages(folder: Path) -> dict[str, str]:
    """Return the text of every page and plot by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix in (".md", ".svg")}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "leaderboards"
        results = shutil.copytree(COMMITTED / "results", made / "results")  # pages link to results beside them
        if status := leaderboard.main([str(results), "--out", str(made)]):
            return status
        before, after = pages(COMMITTED), pages(made)
    different = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    for name in different:
        old, new = (texts.get(name, "").splitlines() for texts in (before, after))
        print(*difflib.unified_diff(old, new, f"committed/{name}", f"made again/{name}", lineterm=""), sep="\n")
    print(f"{len(after)} files made again, {len(different)} differ from the committed ones")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
