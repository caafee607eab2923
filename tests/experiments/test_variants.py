"""Variants of a method are rows of one comparison, under names of their own that no record has."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.sweeps import records
from support.toys import registered
from zipeft.api.search import Range
from zipeft.commands.run import _parse, main
from zipeft.errors import UserError
from zipeft.experiments.plan import make_plan
from zipeft.experiments.variants import Variant, parse_variants
from zipeft.methods.zero_gated import ZeroGated
from zipeft.results import Failure, Result, Trial

TOY = ("--backbone", "toy", "--task", "toy")
SHORT = (*TOY, "--epochs", "1", "--steps", "2")
FAST = "fast=zero_gated:gate_learning_rate=0.5,length=3"


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


def contenders(*arguments):
    (comparison,) = make_plan(_parse([*TOY, *arguments]))
    return {each.label: each for each in comparison.contenders}


def test_a_variant_is_a_method_with_settings_of_its_own():
    made = contenders(
        "--variant", FAST, "--variant", "wide=zero_gated:gate=channel", "--method", "linear", "zero_gated"
    )
    assert list(made) == ["linear", "zero_gated", "fast", "wide"]
    assert made["fast"].method == ZeroGated(gate_learning_rate=0.5, length=3)
    assert made["wide"].method == ZeroGated(gate="channel")
    assert {each.name for each in made.values()} == {"linear", "zero_gated"}
    assert list(contenders("--variant", FAST)) == ["fast"]


def test_what_is_set_for_the_method_holds_for_its_variants_and_what_is_set_is_not_searched():
    settings = ["--set", "zero_gated.layers=1", "--set", "fast.prompt_std=2"]
    variants = ["--variant", FAST, "--variant", "b=zero_gated:learning_rate=0.2"]
    made = contenders(*variants, "--trials", "2", *settings)
    assert made["fast"].method == ZeroGated(gate_learning_rate=0.5, length=3, layers=1, prompt_std=2.0)
    assert made["b"].method == ZeroGated(learning_rate=0.2, layers=1)
    assert made["fast"].space.keys() == {"learning_rate", "head_learning_rate"}
    assert made["b"].space.keys() == {"head_learning_rate"}
    assert isinstance(made["b"].space["head_learning_rate"], Range)


def test_a_comma_within_a_list_parts_no_settings():
    assert parse_variants(["a=lora:targets=qkv,proj,rank=4"]) == {
        "a": Variant("a", "lora", {"targets": "qkv,proj", "rank": "4"})
    }
    assert parse_variants(["a=lora"]) == {"a": Variant("a", "lora")}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--variant", "fast"], "is not of the form"),
        (["--variant", "=zero_gated:length=3"], "is not of the form"),
        (["--variant", "a=zero_gated:length"], "is not of the form"),
        (["--variant", "a=zero_gated:length=3,length=4"], "set twice"),
        (["--variant", FAST, "--variant", FAST], "two variants are called so"),
        (["--variant", "lora=zero_gated:length=3"], "a method is called so"),
        (["--variant", "toy=zero_gated:length=3"], "another part is called so"),
        (["--variant", "a=zero_gatd:length=3"], "unknown method"),
        (["--variant", "a=zero_gated:lenth=3"], "no setting 'lenth'"),
        (["--variant", "a=coop"], "only, not for image"),
        (["--variant", "a=zero_gated:length=10", "--method", "zero_gated"], "a is the same as zero_gated"),
        (["--variant", FAST, "--set", "fast.length=4"], "fast.length is set twice"),
        (["--variant", FAST, "--set", "slow.length=4"], "has no 'slow'"),
        (["--variant", FAST, "--validation-only"], "give --trials 1 or more"),
        (["--variant", FAST, "--validation-only", "--trials", "2", "--seeds", "2"], "and no --seeds"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, reason):
    with pytest.raises(UserError, match=reason) as error:
        contenders(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        f'variant = ["{FAST}", "b=linear"]',
        '[variant.fast]\nmethod = "zero_gated"\ngate_learning_rate = 0.5\nlength = 3\n[variant.b]\nmethod = "linear"\n',
    ],
)
def test_a_sweep_file_holds_variants(content):
    Path("sweep.toml").write_text(content)
    made = contenders("--config", "sweep.toml")
    assert made == contenders("--variant", FAST, "--variant", "b=linear")


def test_variants_are_rows_with_adapters_and_ids_of_their_own(capsys):
    once = [*SHORT, "--trials", "0", "--seeds", "1", "--method", "zero_gated"]
    assert main([*once, "--variant", FAST, "--save-adapters", "kept"]) == 0
    found = {result.method.settings.get("gate_learning_rate"): result for result in records()[Result]}
    assert {result.method.name for result in found.values()} == {"zero_gated"}
    said = capsys.readouterr()
    assert "gate_learning_rate=0.5" in said.out
    assert {path.name for path in Path("kept").glob("*/*/*")} == {"zero_gated-seed0", "fast-seed0"}
    plain = found[None].id
    assert main([*once, "--results", "alone"]) == 0
    (alone,) = records("alone")[Result]
    assert alone.id == plain


def test_trials_alone_are_scored_on_validation_data_and_open_no_test_data(capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError("test data are opened")

    monkeypatch.setattr("zipeft.experiments.experiment.Experiment._test", refuse)
    arguments = [*SHORT, "--trials", "2", "--validation-only", "--variant", FAST]
    arguments += ["--variant", "set=linear:learning_rate=0.1,head_learning_rate=0.1"]
    assert main(arguments) == 0
    found = records()
    assert [len(found[kind]) for kind in (Result, Trial, Failure)] == [0, 3, 0]  # where nothing is drawn, there is one
    said = capsys.readouterr().out
    assert "fast" in said
    assert "set" in said
    assert "head_learning_rate=" in said
    assert "no test data were opened" in said
    best = max(trial.validation["accuracy"] for trial in found[Trial] if trial.method.name == "zero_gated")
    assert f"{100 * best:.1f}" in said
    assert main(arguments) == 0
    assert len(records()[Trial]) == 3
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    assert "fast" in capsys.readouterr().out
