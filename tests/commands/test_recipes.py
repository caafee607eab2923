"""Every recipe is a sweep that can be planned, and says in its first lines how it is run."""

from __future__ import annotations

import re
import shlex
from types import SimpleNamespace

import pytest

from support import ROOT
from zipeft.commands.recipe_file import predicted, recipe_named, recipes
from zipeft.commands.recipe_outlook import targets
from zipeft.commands.recipes import main as list_recipes
from zipeft.commands.run import _parse, _sharded, main
from zipeft.errors import UserError
from zipeft.experiments.plan import make_plan
from zipeft.prediction.devices import device_named
from zipeft.training.execution import Execution

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


COMMENTED = [recipe for recipe in RECIPES if "python -m zipeft.run" in recipe.read_text("utf-8")]


@pytest.mark.parametrize("recipe", COMMENTED, ids=lambda recipe: recipe.stem)
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


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_names_its_source_and_what_it_takes(name):
    recipe = recipe_named(name)
    for words in (recipe.title, recipe.source, recipe.unsaid, recipe.data, recipe.weights):
        assert words.strip()
    plan = make_plan(_parse(["--recipe", name]))
    methods = {contender.name for comparison in plan for contender in comparison.contenders}
    assert recipe.targets.keys() <= methods
    for method in recipe.targets:  # each is a row of a table that the page shows beside what was measured
        assert any(targets(recipe, comparison, method) for comparison in plan), method
    if recipe.gpu:
        assert device_named(recipe.gpu)
        assert recipe.examples > 0
        assert predicted()[name].keys() == methods
    else:
        assert name not in predicted()


def test_every_published_row_of_the_seed_has_a_recipe():
    assert recipes().keys() >= {
        *("llama-alpaca-full", "llama-alpaca-lora", "llama-adapter", "vit-vtab", "vit-fgvc", "clip-base2novel"),
        *("roberta-squad1", "roberta-squad2", "roberta-conll03", "roberta-conll04", "roberta-conll05"),
        *("roberta-conll12", "scienceqa", "scienceqa-layers", "scienceqa-gate"),
    }


def test_recipes_are_listed(capsys):
    assert list_recipes([]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in recipes())


def test_a_recipe_that_there_is_not_is_named(capsys):
    assert main(["--recipe", "llama-adaptor"]) == 2
    assert "no recipe 'llama-adaptor'; did you mean 'llama-adapter'?" in capsys.readouterr().err


def test_a_recipe_is_no_config_beside_another():
    with pytest.raises(UserError, match="keep one"):
        _parse(["--recipe", "vlm-gate", "--config", "x.toml"])


def test_options_on_the_command_line_go_before_a_recipe():
    options = _parse(["--recipe", "llama-adapter", "--epochs", "2", "--set", "zero_gated.layers=20"])
    (comparison,) = make_plan(options)
    assert (comparison.protocol.epochs, comparison.contenders[0].method.layers) == (2, 20)


DRY = [name for name in recipes() if name.startswith("vlm-")]
"""Those of which nothing is predicted; the others take a model's steps, without weights, and minutes in all."""


@pytest.mark.parametrize(
    "name", [*DRY, *(pytest.param(each, marks=pytest.mark.slow) for each in recipes() if each not in DRY)]
)
def test_a_dry_run_resolves_a_recipe_without_network_data_and_weights(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ZIPEFT_OFFLINE", "1")
    monkeypatch.setenv("ZIPEFT_CACHE", str(tmp_path))
    assert main(["--recipe", name, "--dry-run", "--device", "cpu"]) == 0
    output, recipe = capsys.readouterr().out, recipe_named(name)
    assert recipe.source in output
    assert recipe.data in output
    assert all(row in output for row in recipe.targets.values())
    for costs in predicted().get(name, {}).values():
        assert costs["memory"] in output
        assert costs["time"] in output


def test_a_recipe_that_is_sharded_is_so_by_several_processes_and_one_says_that_it_is_whole(capsys):
    assert recipe_named("llama-alpaca-full").sharded
    assert _sharded(Execution(), "llama-alpaca-full", SimpleNamespace(num_processes=2)).sharding
    assert not capsys.readouterr().err
    assert not _sharded(Execution(), "llama-alpaca-full", SimpleNamespace(num_processes=1)).sharding
    assert "llama-alpaca-full is meant to be sharded" in capsys.readouterr().err
