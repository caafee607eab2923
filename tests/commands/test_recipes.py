"""Every recipe is a sweep that can be planned, and says in its first lines how it is run."""

from __future__ import annotations

import re
import shlex

import pytest

from support import ROOT
from zipeft.commands.run import _parse
from zipeft.experiments.plan import make_plan

RECIPES = sorted((ROOT / "recipes").glob("*.toml"))


def test_there_are_recipes():
    assert {recipe.stem for recipe in RECIPES} >= {"vlm-layers", "vlm-gate", "vlm-epochs"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_a_recipe_is_a_plan(recipe):
    options = _parse(["--config", str(recipe)])
    plans = make_plan(options)
    assert plans
    assert all(plan.contenders and plan.seeds for plan in plans)
    assert options.results.name == recipe.stem  # each has a page of its own


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_the_command_in_a_recipe_is_one_that_is_taken(recipe, monkeypatch):
    """With each value of the loop around it, and another plan for each."""
    monkeypatch.chdir(ROOT)
    text = recipe.read_text("utf-8")
    (command,) = re.findall(r"python -m zipeft\.run (.+)", text)
    loop = re.search(r"for (\w+) in ([\d ]+); do", text)
    values = loop[2].split() if loop else [""]
    lines = [command.replace(f"${loop[1]}", value) if loop else command for value in values]
    plans = [make_plan(_parse(shlex.split(line))) for line in lines]
    assert all(one != other for i, one in enumerate(plans) for other in plans[:i])


def test_layers_are_a_quarter_half_all_but_one_and_all_of_the_models():
    (recipe,) = (each for each in RECIPES if each.stem == "vlm-layers")
    assert re.search(r"for layers in ([\d ]+);", recipe.read_text("utf-8"))[1] == "8 15 29 30"
