"""Plans and sweep files: what spans a sweep, from flags and from TOML or YAML."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest

from support.toys import ToyTask, ToyViT, registered
from zipeft import registry
from zipeft.api.search import Choice, Range
from zipeft.commands.run import _parse, main
from zipeft.errors import UserError
from zipeft.experiments.options import RunOptions
from zipeft.experiments.plan import make_plan
from zipeft.methods.lora import LoRA


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        registry.backbones.register("other", ToyViT)
        registry.tasks.register("text", type("Text", (ToyTask,), {"modality": "text", "__doc__": "Text."}))
        yield
        registry.backbones.unregister("other")
        registry.tasks.unregister("text")


def plan(*arguments):
    return make_plan(_parse(arguments))


def pairs(comparisons):
    return [(comparison.backbone.name, comparison.task.name) for comparison in comparisons]


def write(content: str, name="sweep.toml") -> list[str]:
    Path(name).write_text(content)
    return ["--config", name]


def test_repeated_flags_span_backbones_and_tasks(capsys):
    made = plan("--backbone", "toy", "other", "--task", "toy", "--task", "text", "--seeds", "4", "--trials", "2")
    assert pairs(made) == [("toy", "toy"), ("other", "toy")]
    assert {comparison.seeds for comparison in made} == {(0, 1, 2, 3)}
    assert {comparison.trainings for comparison in made} == {6}
    assert "zipeft: left out: text is a task on texts; the backbone toy takes images" in capsys.readouterr().err


TOML = """
backbone = ["toy", "other"]
task = "toy"
method = ["linear", "zero_gated"]
seeds = [3, 5]
trials = 2
no-pretrained = true

[set.zero_gated]
length = 3
[set.protocol]
warmup = 0.5
"""
YAML = """
backbone: [toy, other]
task: toy
method: [linear, zero_gated]
seeds: 3,5
trials: 2
no_pretrained: yes
set: [zero_gated.length=3, protocol.warmup=0.5]
"""


@pytest.mark.parametrize(("content", "name"), [(TOML, "sweep.toml"), (YAML, "sweep.yaml")])
def test_a_sweep_file_is_its_flags(content, name):
    flags = ["--backbone", "toy", "other", "--task", "toy", "--method", "linear", "zero_gated", "--seeds", "3,5"]
    flags += ["--trials", "2", "--no-pretrained", "--set", "zero_gated.length=3", "--set", "protocol.warmup=0.5"]
    assert plan(*write(content, name)) == plan(*flags)
    assert plan(*write(f"\ufeff{content}", name)) == plan(*flags)  # with a byte order mark, as Windows' Notepad has it


def test_the_command_line_overrides_a_sweep_file():
    assert plan(*write("backbone = 'toy'\ntask = 'toy'\nseeds = [7]"))[0].seeds == (7,)
    made = plan(*write(TOML), "--backbone", "toy", "--seeds", "1", "--set", "zero_gated.length=7")
    assert pairs(made) == [("toy", "toy")]
    assert made[0].seeds == (0,)
    assert made[0].contenders[1].method.length == 7
    assert made[0].protocol.warmup == 0.5


LAUGHS = "a: &a [x]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefg"))
"""A million texts in seven lines."""


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("backbon = 'toy'", "sweep.toml", "no option 'backbon'; did you mean 'backbone'?"),
        ("backbone = [", "sweep.toml", "sweep.toml: "),
        ("- toy", "sweep.yaml", "options are expected"),
        ("a: [", "sweep.yml", "sweep.yml: "),
        ("{}", "sweep.json", "a sweep file is named .toml, .yaml or .yml"),
        ("redo = 1", "sweep.toml", "redo is true or false"),
        ("set = 'x'", "sweep.toml", "set is a table of tables"),
        ("trials = {a = 1}", "sweep.toml", "trials takes a text, a number or a list of those, and has a dict"),
        ("backbone = 'toy'", "sweep.toml", "required: --task"),
        ("backbone = 'toy'\ntask = 'toy'\nseeds = 'many'", "sweep.toml", "--seeds many: give a number"),
        ("backbone = 'toy'\ntask = 'toy'\ntrials = -1", "sweep.toml", "trials must be from 0 (no search) to 10,000"),
        ("config = 'other.toml'", "sweep.toml", "no option 'config'"),
        ("\xff", "sweep.toml", "sweep.toml: "),
        ("seeds = " + "[" * 5000 + "]" * 5000, "sweep.toml", "sweep.toml is nested too deeply"),
        ("seeds: " + "[" * 5000, "sweep.yaml", "sweep.yaml is nested too deeply"),
        ('seeds: !!timestamp "abc"', "sweep.yaml", "a value is not what its tag says"),
        ('redo: !!bool "abc"', "sweep.yaml", "a value is not what its tag says"),
        ('seeds: !!int ""', "sweep.yaml", "a value is not what its tag says"),
        ("seeds: &a [*a]", "sweep.yaml", "seeds takes a text, a number or a list of those, and has a list"),
        ("set: {protocol: {epochs: &a [*a]}}", "sweep.yaml", "set.protocol.epochs takes a text"),
        (LAUGHS + "backbone: *g", "sweep.yaml", "no option 'a'"),
        (LAUGHS.replace("a:", "task:", 1) + "backbone: *g", "sweep.yaml", "no option 'b'"),
        ("seeds: 1\nseeds: 2", "sweep.yaml", "'seeds' is given twice"),
        ("no-pretrained: true\nno_pretrained: false", "sweep.yaml", "no_pretrained is given twice"),
        ("a: &a {x: 1}\nset: {<<: *a}", "sweep.yaml", "'<<' merges other keys"),
        ("0", "sweep.yaml", "options are expected"),
        ("method:", "sweep.yaml", "method takes a text, a number or a list of those, and has a NoneType"),
        ("seeds = [[0], [1]]", "sweep.toml", "seeds takes a text"),
        ("results = 1.5", "sweep.toml", "results is no path"),
        ("trials = true", "sweep.toml", "trials is neither true nor false, but takes a value"),
        ("data_dir = '\\u0000'".replace("'", '"'), "sweep.toml", "argument --data-dir: invalid path value"),
        ("backbone = 'toy'\ntask = 'toy'\nmethod = ['linear', '--redo']", "sweep.toml", "unknown method '--redo'"),
        ("backbone = 'toy'\ntask = 'toy'\nset = ['--redo']", "sweep.toml", "'--redo' is not of the form"),
        ("backbone = 'toy'\ntask = 'toy'\nset.protocol.preset = 'paper'", "sweep.toml", "choose one by --preset"),
    ],
)
def test_a_mistake_in_a_sweep_file_is_named(content, name, message, capsys):
    Path(name).write_bytes(content.encode("latin-1"))
    assert main(["--config", name]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last
    assert name in last or "sweep" not in message


def test_the_options_are_printed_as_a_sweep_file(capsys):
    flags = ["--backbone", "toy", "other", "--task", "toy", "--set", 'zero_gated.length="3"', "--dry-run", "--redo"]
    flags += ["--seeds", "3,", "--results", "a b", "--ray", "--ray-gpus", "0.5", "--preset", "quick"]
    with pytest.raises(SystemExit):
        _parse([*flags, "--print-config"])
    printed = capsys.readouterr().out
    assert 'backbone = ["toy", "other"]\n' in printed
    assert _parse(write(printed)) == _parse(flags) != RunOptions()


def test_a_sweep_file_may_ask_for_a_cluster():
    assert _parse(write("backbone = 'toy'\ntask = 'toy'\nray = true")).ray == "auto"
    assert _parse(write("backbone = 'toy'\ntask = 'toy'\nray = false")).ray is None


def test_a_missing_sweep_file_is_named(capsys):
    assert main(["--config", "none.toml"]) == 2
    assert "cannot read none.toml: No such file" in capsys.readouterr().err


def test_what_fits_one_backbone_or_task_is_not_given_to_several():
    with pytest.raises(UserError, match=r"--checkpoint fits one only; with several write --set toy\.checkpoint="):
        plan("--backbone", "toy", "other", "--task", "toy", "--checkpoint", "x")
    made = plan("--backbone", "toy", "other", "--task", "toy", "--set", "other.checkpoint=x")
    assert [comparison.backbone.plugin.checkpoint for comparison in made] == ["", "x"]


def test_a_preset_brings_spaces(monkeypatch):
    spaces = {"zero_gated": {"learning_rate": Range(1e-3, 2e-3), "length": Choice((2, 5))}}
    quick = dataclasses.replace(ToyTask.presets["quick"], spaces=spaces)
    monkeypatch.setattr(ToyTask, "presets", {"quick": quick})
    (made,) = plan("--backbone", "toy", "--task", "toy", "--trials", "4", "--method", "zero_gated", "lora")
    gated, lora = made.contenders
    assert gated.space == spaces["zero_gated"]
    assert lora.space == LoRA.space
    drawn = [candidate.searched() for candidate in gated.candidates(made.protocol)]
    assert {settings["length"] for settings in drawn} == {2, 5}
    assert all(1e-3 <= settings["learning_rate"] <= 2e-3 for settings in drawn)
    (made,) = plan("--backbone", "toy", "--task", "toy", "--trials", "4", "--set", "zero_gated.length=3")
    assert made.contenders[1].space == {"learning_rate": Range(1e-3, 2e-3)}


def test_a_preset_brings_settings_that_set_and_the_search_override(monkeypatch):
    quick = ToyTask.presets["quick"]
    settings = {"linear": {"head_learning_rate": 0.5}, "zero_gated": {"length": 3, "learning_rate": 0.5}}
    monkeypatch.setattr(ToyTask, "presets", {"quick": dataclasses.replace(quick, settings=settings)})
    (made,) = plan("--backbone", "toy", "--task", "toy", "--set", "zero_gated.learning_rate=0.25")
    linear, gated = (contender.method for contender in made.contenders)
    assert (linear.head_learning_rate, gated.length, gated.learning_rate) == (0.5, 3, 0.25)
    (made,) = plan("--backbone", "toy", "--task", "toy", "--trials", "2", "--method", "zero_gated")
    (contender,) = made.contenders
    tried = [candidate.method for candidate in contender.candidates(made.protocol)]
    assert {method.length for method in tried} == {3}
    assert 0.5 not in {method.learning_rate for method in tried}


def test_one_set_of_a_task_is_named_with_a_slash():
    toys = ("--backbone", "toy", "other", "--method", "linear", "--task")
    registry.tasks.register("sets", type("Sets", (SetsTask,), {"__doc__": "Sets."}))
    try:
        (one, _) = plan(*toys, "sets/red")
        assert (one.task.name, one.task.plugin.sets) == ("sets", ("red",))
        assert plan(*toys, "sets/red", "sets/blue")[0].task.plugin.sets == ("red", "blue")
        assert plan(*toys, "sets/red", "sets")[0].task.plugin.sets == ()
        with pytest.raises(UserError, match="text has no sets that can be named alone"):
            plan(*toys, "text/colours")
        with pytest.raises(UserError, match="sets is set twice"):
            plan(*toys, "sets/red", "--set", "sets.sets=blue")
    finally:
        registry.tasks.unregister("sets")


@dataclasses.dataclass(frozen=True)
class SetsTask(ToyTask):
    sets: tuple[str, ...] = ()
