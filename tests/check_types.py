"""Check the types of the package and of its plug-ins, under the names that they have when they are installed.

mypy does not know that setuptools maps ``backbones/`` and ``tasks/`` into the package, so it is shown a folder of links
in which they lie there. Arguments go to mypy.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAPPED = ("backbones", "recipes", "tasks")


def link_package(folder: Path) -> None:
    """Fill a folder with links to what the installed package holds."""
    folder.mkdir()
    for entry in [*(ROOT / "zipeft").iterdir(), *(ROOT / name for name in MAPPED)]:
        (folder / entry.name).symlink_to(entry)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        link_package(Path(folder) / "zipeft")
        mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
        cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
        return subprocess.run([*mypy, *cache, *sys.argv[1:]], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
