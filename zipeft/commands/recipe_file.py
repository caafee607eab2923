"""Recipes: sweep files that stand for published results, in the package ``zipeft.recipes``. It imports no torch.

Beside the options of a run each has a table ``[recipe]``, whose keys are the fields of ``Recipe``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

import zipeft.recipes
from zipeft.errors import UserError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREDICTED = "predicted.json"
"""The file beside the recipes that has what was predicted of each; ``tests/predict_recipes.py`` writes it."""


@dataclass(frozen=True)
class Recipe:
    """A recipe. What is not said of the hardware is not predicted.

    Args:
        source: where the results are published.
        unsaid: what the publication leaves unsaid, and what was chosen.
        data, weights: what is needed of both, and from where.
        targets: the row of the task's published tables that each method is to meet.
        gpu: the device, as ``zipeft profile --gpu`` has it; ``devices`` of it, over which the model is ``sharded``.
        examples: how many train.
        length, image_size: the tokens of a text, and the pixels of an image's side, for which memory is predicted.
    """

    name: str
    path: Path
    title: str
    source: str
    unsaid: str
    data: str
    weights: str
    targets: Mapping[str, str] = field(default_factory=dict)
    gpu: str = ""
    devices: int = 1
    sharded: bool = False
    examples: int = 0
    length: int = 128
    image_size: int | None = None

    @property
    def hardware(self) -> str:
        if not self.gpu:
            return "2 cores"
        return f"{self.devices} x {self.gpu}{', sharded' if self.sharded else ''}"


@cache
def recipes() -> dict[str, Recipe]:
    """Return all recipes by name. Raises ``ValueError`` for one whose table has other keys than a recipe."""
    (folder,) = map(Path, zipeft.recipes.__path__)
    return {path.stem: _read(path) for path in sorted(folder.glob("*.toml"))}


def recipe_named(name: str) -> Recipe:
    """Return a recipe. Raises ``UserError`` for a name that there is not."""
    if name not in recipes():
        raise UserError(f"no recipe {name!r}{did_you_mean(name, recipes())} (zipeft recipes lists them)")
    return recipes()[name]


def predicted() -> dict[str, dict[str, dict[str, str]]]:
    """Return the predicted "memory" and "time" of each method, by recipe."""
    (folder,) = map(Path, zipeft.recipes.__path__)
    return json.loads((folder / PREDICTED).read_text("utf-8"))


def _read(path: Path) -> Recipe:
    table = tomllib.loads(path.read_text("utf-8")).get("recipe", {})
    if unknown := table.keys() - {each.name for each in fields(Recipe)}:
        raise ValueError(f"{path}: [recipe] has {min(unknown)!r}")
    return Recipe(path.stem, path, **table)
