"""Run commands of README.md and CONTRIBUTING.md as they show them: what a newcomer types is what is tested.

A command is the fenced block after a comment that names it, such as ``<!-- tests -->``. It runs in this checkout,
or with ``--fresh`` in a copy of it without anything that is built or ignored.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
BLOCK = re.compile(r"^<!-- *(?P<name>[^\n]+?) *-->\n+```[^\n]*\n(?P<command>.+?)\n```$", re.MULTILINE | re.DOTALL)


def commands(readme: str) -> dict[str, str]:
    """Return the text of every named block by its name."""
    return {block["name"]: block["command"] for block in BLOCK.finditer(readme)}


def known_commands(root: Path) -> dict[str, str]:
    """Return the named commands of all documents that have such."""
    return {
        name: command
        for document in DOCUMENTS
        if (root / document).exists()
        for name, command in commands((root / document).read_text(encoding="utf-8")).items()
    }


def run(command: str, folder: Path) -> int:
    """Run a command with bash in a folder and return its exit status. ``python`` is the one that runs this file."""
    print(f"+ {command}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    environment["README_PYTHON"] = sys.executable
    script = f'set -euo pipefail\npython() {{ "$README_PYTHON" "$@"; }}\n{command}\n'
    return subprocess.run(["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL).returncode


def copy_checkout(target: Path) -> None:
    """Copy the files that git tracks or would track."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # and not deleted in the work tree
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="the commands to run, in order")
    parser.add_argument("--fresh", action="store_true", help="run them in a new copy of the checkout")
    options = parser.parse_args()
    known = known_commands(ROOT)
    if unknown := ", ".join(sorted(set(options.names) - set(known))):
        parser.error(f"{' and '.join(DOCUMENTS)} have no command named {unknown}, but {', '.join(known) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        if options.fresh:
            copy_checkout(Path(folder))
        for name in options.names:
            if status := run(known[name], Path(folder) if options.fresh else ROOT):
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
