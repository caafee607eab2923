"""The order of the package: every module stands above those that it imports, those for its annotations too."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from support.modules import imports, modules


def test_no_module_imports_one_that_stands_above_it():
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(graph)  # or nothing was read
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")
