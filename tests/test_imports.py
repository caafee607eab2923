"""The order of the package: every module stands above those that it imports, those for its annotations too."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support.modules import modules


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


def test_no_module_imports_one_that_stands_above_it():
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(graph)  # or nothing was read
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")
