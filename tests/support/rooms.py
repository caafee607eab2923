"""The packages of zipeft ("rooms"), what each imports, and their order: read from the code."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter

from support import ROOT
from support.modules import FOLDERS, imports, modules

ENTRANCES = ("zipeft", "zipeft.__main__", "zipeft.run", "zipeft.leaderboard.__main__")
"""Modules that only hand on: they are in no room."""

FOUNDATIONS = "foundations"
"""The room of the single modules at the top of the package that import no other room."""


@cache
def graph() -> dict[str, set[str]]:
    """Return the rooms that every room imports anywhere, in functions and for annotations too, itself left out."""
    known = {name: path for name, path in modules().items() if name not in ENTRANCES}
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        found.setdefault(room(module), set()).update(map(room, imports(path, known)))
    return {name: others - {name} for name, others in found.items()}


def room(module: str) -> str:
    """Return the room of a module: its package below ``zipeft``, or what stands for single modules."""
    name = module.split(".")[1]
    single = (ROOT / "zipeft" / f"{name}.py").is_file()
    return FOUNDATIONS if single and name != "registry" else name


def order() -> list[str]:
    """Return the rooms, each after those that it imports, alphabetically where that leaves a choice.

    Raises ``graphlib.CycleError`` if rooms import each other.
    """
    sorter = TopologicalSorter(graph())
    sorter.prepare()
    found: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += ready
        sorter.done(*ready)
    return found


def direct() -> dict[str, list[str]]:
    """Return for every room the rooms that it imports and that no other room it imports stands above."""
    imported = graph()

    @cache
    def below(name: str) -> frozenset[str]:
        return frozenset(imported[name]).union(*map(below, imported[name]))

    return {
        name: sorted(each for each in imported[name] if not any(each in below(other) for other in imported[name]))
        for name in order()
    }


def picture() -> str:
    """Return a Mermaid flowchart in which an arrow leads from a room to those that it imports.

    An arrow that others imply is left out.
    """
    arrows = [f"    {name} --> {other}" for name, others in reversed(direct().items()) for other in others]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, "```"])


def table() -> str:
    """Return a table of the rooms from the lowest to the highest, with the first sentence of each one's docstring."""
    rows = [f"| {_folder(name)} | {_summary(name)} |" for name in order()]
    return "\n".join(["| room | what it holds |", "|:--|:--|", *rows])


def _folder(name: str) -> str:
    if name == FOUNDATIONS:
        return "modules of `zipeft/`"
    return f"`{name}/`" if name in FOLDERS.values() else f"`zipeft/{name}{'.py' if name == 'registry' else '/'}`"


def _summary(name: str) -> str:
    if name == FOUNDATIONS:
        single = {path.stem for path in (ROOT / "zipeft").glob("*.py")} - {"__init__", "__main__", "run", "registry"}
        return f"What everything may use: {', '.join(f'`{each}`' for each in sorted(single))}."
    places = (ROOT / "zipeft" / f"{name}.py", ROOT / "zipeft" / name / "__init__.py", ROOT / name / "__init__.py")
    doc = (
        ast.get_docstring(ast.parse(next(path for path in places if path.is_file()).read_text(encoding="utf-8"))) or ""
    )
    return " ".join(doc.partition("\n\n")[0].split())
