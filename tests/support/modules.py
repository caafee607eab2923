"""The modules of the package, and where they lie."""

from __future__ import annotations

from pathlib import Path

from support import ROOT

FOLDERS = {"zipeft": "zipeft", "zipeft.backbones": "backbones", "zipeft.tasks": "tasks"}
"""The packages, and where their modules lie."""


def modules() -> dict[str, Path]:
    """Return the file of every module, by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found
