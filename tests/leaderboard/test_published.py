"""Published tables on a page: the rows that a recipe is to meet, and what was measured, in the same columns."""

from __future__ import annotations

import re

import pytest

from support.result_factory import make_result
from support.toys import ToyTask, registered
from zipeft import registry
from zipeft.api.published_results import read_published
from zipeft.api.task import Average, PublishedTable, Task
from zipeft.commands.recipe_file import recipe_named, recipes
from zipeft.commands.run import _parse, main
from zipeft.experiments.plan import make_plan
from zipeft.formatting import DASH
from zipeft.leaderboard.blocks import Heading, Table
from zipeft.leaderboard.build import load_pages, render
from zipeft.leaderboard.published import APART, BESIDE, published
from zipeft.leaderboard.ranking import summary_rows


def tables(results) -> list[dict[str, list[str]]]:
    """Return the published tables of a page of results: the texts of each row's cells, by the first."""
    found = [block for block in published(summary_rows(results)) if isinstance(block, Table)]
    return [{str(first): list(map(str, rest)) for first, *rest in table.rows} for table in found]


# --- of recipes -------------------------------------------------------------------------------------------------------

DATASETS = {
    "clip-base2novel": "imagenet",
    "roberta-conll03": "conll03",
    "roberta-conll04": "conll04",
    "roberta-conll05": "conll05",
    "roberta-conll12": "conll12",
    "roberta-squad1": "squad-v1.1",
    "roberta-squad2": "squad-v2.0",
    "scienceqa": "a folder of ScienceQA's",
    "scienceqa-gate": "a folder of ScienceQA's",
    "scienceqa-layers": "a folder of ScienceQA's",
    "vit-fgvc": "cub-200-2011",
    "vit-vtab": "svhn",
}
"""A data set of each recipe. What LLaMA's are to meet is on no page: other benchmarks, by ``zipeft lm-eval``."""


def test_every_recipe_is_looked_at():
    assert DATASETS.keys() == {name for name, r in recipes().items() if r.targets and not name.startswith("llama-")}


@pytest.mark.parametrize("name", DATASETS)
def test_what_a_recipe_measures_stands_beside_what_it_is_to_meet(name):
    recipe, (comparison,) = recipe_named(name), make_plan(_parse(["--recipe", name]))
    scores = {"accuracy": 0.614, "written_accuracy": 0.614}
    results = [
        make_result(method, DATASETS[name], test=scores, validation=scores, **{"task.name": comparison.task.name})
        for method in recipe.targets
    ]
    found = tables(results)
    for method, row in recipe.targets.items():
        (table,) = (table for table in found if row in table and f"{method}, measured" in table)
        column = table[f"{method}, measured"].index("61.4")
        assert 0 < float(table[row][column]) < 100


RECIPE = """
backbone = "toy"
task = "toy"
method = "zero_gated"
seeds = 1
epochs = 1
steps = 2
results = "results"

[recipe]
title = "Colours"
source = "Someone 2024, Table 1"
unsaid = "all"
data = "drawn"
weights = "random"

[recipe.targets]
zero_gated = "Gates"
"""


TABLE = PublishedTable("Colours", "Someone 2024", ["Colours"], {"Gates": ["92.4"], "PT": ["76.8"]})


def test_the_page_of_a_recipe_that_was_run_has_measured_and_target_in_one_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ToyTask, "published", (TABLE,))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    with registered():
        assert main(["--config", "recipe.toml", "--device", "cpu"]) == 0
        ((page,), _) = load_pages([tmp_path / "results"], tmp_path, plots=False)
        page = render(page, ["md"])["toy-toy.md"].decode()
    own, _, beside = page.partition(f"## {BESIDE}\n")
    score, *_ = (line.split("|")[3].split()[0] for line in own.splitlines() if line.startswith("| zero_gated "))
    (table,) = re.findall(r"(?:^\|.*\n)+", beside.partition("\n## ")[0], re.MULTILINE)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["method", "Colours"]
    assert rows[2:] == [["zero_gated, measured", score.strip("*")], ["Gates", "92.4"], ["PT", "76.8"]]


# --- columns ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """Return the published tables of a page whose task has these."""

    def shown(results, *given: PublishedTable, averages=()):
        plugin = type("Plugin", (Task,), {"published": given, "averages": averages})
        monkeypatch.setattr(registry.tasks, "get", lambda name: plugin)
        return tables(results)

    return shown


def test_a_column_may_be_another_score_validation_data_an_average_or_nothing_measured(shown):
    results = [
        make_result(
            dataset=name,
            seed=seed,
            score=score + seed / 10,
            test={"accuracy": score + seed / 10, "f1": 0.25},
            validation={"accuracy": score + seed / 10 - 0.2},
        )
        for name, score in (("icons", 0.5), ("typefaces", 0.7))
        for seed in (0, 1)
    ]
    named = PublishedTable("By name", "x", ["Icons", "both", "params"], {"A": ["1", "2", "3"]})
    told = PublishedTable("Told", "x", ["F1", "?"], {"A": ["1", "2"]}, ("typefaces/f1", ""))
    other = PublishedTable("Other", "x", ["CUB"], {"A": ["1"]})
    held_out = PublishedTable("Held out", "x", ["icons"], {"A": ["1"]}, ("icons",), "validation")
    average = Average("both", {"icons": 0.5, "typefaces": 0.5})
    found = shown(results, named, told, other, held_out, averages=(average,))
    assert [table.get("lora, measured") for table in found] == [["55.0", "65.0", DASH], ["25.0", DASH], None, ["35.0"]]
    assert [table["A"] for table in found] == [["1", "2", "3"], ["1", "2"], ["1"], ["1"]]


@pytest.mark.parametrize(("dataset", "heading"), [("icons", BESIDE), ("typefaces", APART)])
def test_the_heading_says_whether_anything_was_measured(dataset, heading, monkeypatch):
    plugin = type("Plugin", (Task,), {"published": (PublishedTable("T", "x", ["icons"], {"A": ["1"]}),)})
    monkeypatch.setattr(registry.tasks, "get", lambda name: plugin)
    found = published(summary_rows([make_result(dataset=dataset)]))
    assert [block.text for block in found if isinstance(block, Heading)] == [heading]


def test_a_table_says_of_every_column_what_is_measured_or_of_none(tmp_path):
    file = tmp_path / "published.toml"
    keys = ('title = "T"', 'source = "S"', 'columns = ["a", "b"]', 'measures = ["a"]', 'rows = {A = "1 2"}')
    file.write_text("\n".join(("[[table]]", *keys)))
    with pytest.raises(ValueError, match="T says of 1 columns what is measured, of 2"):
        read_published(file)
