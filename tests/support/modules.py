"""The modules of the package, where they lie, and which of them each imports."""

from __future__ import annotations

import ast
from pathlib import Path

from support import ROOT

FOLDERS = {"zipeft": "zipeft", "zipeft.backbones": "backbones", "zipeft.recipes": "recipes", "zipeft.tasks": "tasks"}
"""The packages, and where their modules lie."""


def modules() -> dict[str, Path]:
    """Return the file of every module, by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Return the modules of the package that a file imports anywhere, inside functions too."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            named.update((submodules & known.keys()) or {node.module})
    return named & known.keys()
