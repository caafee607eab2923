"""The order of the package: modules, and packages, stand above those that they import, for their annotations too."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from support.modules import imports, modules
from support.rooms import ENTRANCES

LAYERS = [
    {"checkouts", "errors", "extras", "formatting", "last_only", "recipes", "strict_json"},
    {"files", "locks", "metrics", "modules"},
    {"json_lines", "results", "sources"},
    {"api"},
    {"registry", "text", "training"},
    # Objectives generate answers to score them; gated prompts find their splices as plug-ins.
    {"generation", "objectives", "splices"},
    {"images", "leaderboard", "methods", "prediction"},
    {"backbones", "vqa"},
    {"adapters", "demo", "doctor", "judge", "tasks"},
    # Above the leaderboard, for the table at the end of a run is one of its.
    {"benchmarks", "experiments"},
    {"commands"},
]
"""The packages and modules right in ``zipeft``, from the lowest: each imports from layers below its own alone."""


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_module_imports_one_that_stands_above_it():
    known = modules()
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(graph)  # or nothing was read
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"these import each other: {' <- '.join(error.args[1])}")


def test_every_package_has_its_place():
    placed = [name for layer in LAYERS for name in layer]
    assert sorted(placed) == sorted({room(name) for name in modules() if name not in ENTRANCES})


def test_packages_import_from_lower_layers_alone():
    known = modules()
    height = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    upward = [
        f"{name} imports {imported}"
        for name, path in known.items()
        if name not in ENTRANCES
        for imported in sorted(imports(path, known).difference(ENTRANCES))
        if room(imported) != room(name) and height[room(imported)] >= height[room(name)]
    ]
    assert not upward
