"""The command ``python -m zipeft.run``: its plan, its table, its results, and every way to get it wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.method_cases import methods_for
from support.toys import ToyTask, registered
from zipeft import registry
from zipeft.api.method import Method
from zipeft.api.task import Task
from zipeft.commands.run import _parse, main
from zipeft.errors import UserError
from zipeft.experiments.plan import _seeds, make_plan

TOY = ["--backbone", "toy", "--task", "toy", "--device", "cpu"]


@pytest.fixture(autouse=True)
def toys(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with registered():
        yield


def plan(*arguments):
    (comparison,) = make_plan(_parse([*TOY, *arguments]))
    return comparison


def run(capsys, *arguments):
    status = main([*TOY, "--epochs", "1", *arguments])
    return status, *capsys.readouterr()


def files(folder="results"):
    from pathlib import Path

    return {path.name: json.loads(path.read_text()) for path in Path(folder).rglob("*-seed*.json")}


def test_a_run_ends_in_a_table_and_a_result_file_a_run(capsys):
    status, out, err = run(capsys)
    assert status == 0
    assert re.search(r"zero_gated +│.* \d+\.\d ", out)
    assert " results in results/" in out
    assert "100%" in err
    assert {(r["method"]["name"], r["seed"]) for r in files().values()} == {
        (name, seed) for name in ("linear", "zero_gated") for seed in (0, 1)
    }


def test_a_second_run_measures_nothing_again_and_redo_does(capsys):
    run(capsys, "--method", "linear")
    before = files()
    _, first, _ = run(capsys, "--method", "linear")
    assert files() == before
    run(capsys, "--method", "linear", "--redo")
    after = files()
    assert after.keys() == before.keys()
    assert [r["test"] for r in after.values()] == [r["test"] for r in before.values()]
    assert [r["cost"] for r in after.values()] != [r["cost"] for r in before.values()]
    assert "linear" in first


def test_a_comparison_that_was_cut_off_goes_on_where_it_stopped(capsys):
    run(capsys, "--method", "linear", "--seeds", "1")
    before = files()
    run(capsys, "--method", "linear", "--seeds", "2")
    after = files()
    assert len(after) == 2
    assert before.items() <= after.items()


def test_another_setting_is_another_result(capsys):
    run(capsys, "--method", "linear", "--seeds", "1")
    run(capsys, "--method", "linear", "--seeds", "1", "--set", "linear.weight_decay=0.5")
    assert len(files()) == 2


def test_a_method_that_fails_is_named_and_the_others_go_on(capsys):
    class Failing(Method):
        """Fails."""

        def apply(self, backbone, model):
            raise UserError("this one never works")

    registry.methods.register("failing", Failing)
    try:
        status, out, err = run(capsys, "--method", "linear,failing", "--seeds", "1")
    finally:
        registry.methods.unregister("failing")
    assert status == 1
    assert "zipeft: failed: colours, failing, run of seed 0: this one never works" in err
    assert "linear" in out
    assert len(files()) == 1


def test_a_setting_that_does_not_fit_the_model_is_a_failure_that_says_so(capsys):
    status, _, err = run(capsys, "--method", "zero_gated", "--set", "zero_gated.layers=99")
    assert status == 1
    assert "layers is 99; this model has 1 to 4" in err
    assert "Traceback" not in err
    assert not files()


def test_kept_adapters_are_not_made_again(capsys, caplog):
    run(capsys, "--method", "linear", "--seeds", "1")
    run(capsys, "--method", "linear", "--seeds", "1", "--save-adapters", "kept")
    first = files()
    run(capsys, "--method", "linear", "--seeds", "1", "--save-adapters", "kept")
    assert files() == first
    assert not caplog.text
    run(capsys, "--method", "linear", "--seeds", "1", "--save-adapters", "kept", "--set", "linear.weight_decay=0.5")
    one, other = sorted((result["id"] for result in files().values()), key=caplog.text.index)
    folder = Path("kept/toy-toy/colours/linear-seed0")
    assert f"{folder} held what run {one} learnt, and now gets that of run {other}: another" in caplog.text
    assert json.loads((folder / "adapter.json").read_text())["run"] == other


def test_adapters_are_saved_where_they_are_asked_for(capsys, tmp_path):
    from zipeft.commands.evaluate import main as evaluate

    _, _, _ = run(capsys, "--method", "zero_gated", "--seeds", "1", "--save-adapters", "kept")
    (result,) = files().values()
    folder = "kept/toy-toy/colours/zero_gated-seed0"
    assert evaluate([folder]) == 0
    score = 100 * result["test"]["accuracy"]
    assert f"48 test examples: accuracy {score:.1f}" in capsys.readouterr().out
    assert evaluate([folder, "--backbone", "toy", "--checkpoint", "other"]) == 2
    assert "was made for the backbone toy" in capsys.readouterr().err


def test_instructions_go_from_a_run_to_a_page(capsys):
    """The frozen model, in which nothing trains, has a row of its own; what is saved scores what was measured."""
    from zipeft.commands.evaluate import main as evaluate
    from zipeft.commands.leaderboard import main as leaderboard
    from zipeft.commands.validate import main as validate

    arguments = ["--backbone", "toy_instruct", "--task", "toy_instruct", "--device", "cpu", "--epochs", "1"]
    arguments += ["--seeds", "1", "--set", "task.examples=16", "--save-adapters", "kept"]
    assert main(arguments) == 0
    results = {record["method"]["name"]: record for record in files().values()}
    assert results.keys() == {"untuned", "zero_gated"}
    assert results["untuned"]["history"] == []
    assert results["zero_gated"]["test"] != results["untuned"]["test"]
    assert validate(["results"]) == 0
    assert leaderboard(["results", "--out", "pages"]) == 0
    with open("pages/toy_instruct-toy_instruct.md") as file:
        page = file.read()
    assert re.search(r"\| untuned +\|.* 0 \|", page)
    assert "unseen" in page
    capsys.readouterr()
    for name, record in results.items():
        assert evaluate([f"kept/toy_instruct-toy_instruct/summaries/{name}-seed0"]) == 0
        told = capsys.readouterr().out
        assert f"answer_probability {100 * record['test']['answer_probability']:.1f}" in told
        assert "16 unseen examples" in told


def test_settings_reach_the_part_they_name():
    made = plan("--set", "zero_gated.length=3", "--set", "task.examples=12", "--set", "protocol.warmup=0.5")
    assert {contender.name: contender.method for contender in made.contenders}["zero_gated"].length == 3
    assert made.task.plugin.examples == 12
    assert made.protocol.warmup == 0.5
    assert made.protocol.epochs == 3
    assert made.seeds == (0, 1)
    assert [contender.name for contender in plan("--method", "all").contenders] == methods_for("image")


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("0,4,4", (0, 4)), ("7,", (7,))])
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert _seeds(text) == seeds


class TextTask(ToyTask):
    """A task on text."""

    modality = "text"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "vti", "--task", "toy"], "unknown backbone 'vti'; did you mean 'vit'?"),
        (["--backbone", "toy", "--task", "fgcv"], "unknown task 'fgcv'; did you mean 'fgvc'?"),
        ([*TOY, "--method", "zero_gatd"], "unknown method 'zero_gatd'; did you mean 'zero_gated'?"),
        ([*TOY, "--method", "prefix"], "prefix goes with backbones for text and instruction only, not for image"),
        ([*TOY, "--preset", "fast"], "unknown preset 'fast' (quick)"),
        ([*TOY, "--seeds", "0"], "--seeds 0: give a number of seeds"),
        ([*TOY, "--seeds", "a,b"], "--seeds a,b: give a number of seeds"),
        ([*TOY, "--seeds", "1000000000"], "--seeds 1000000000: give a number of seeds"),
        ([*TOY, "--seeds", "4294967296,"], "--seeds 4294967296,: a seed is a number from 0 to 4294967295"),
        ([*TOY, "--trials", "100000000"], "protocol: trials must be from 0 (no search) to 10,000"),
        ([*TOY, "--set", "protocol.search_seed=4294967296"], "search_seed must be from 0 to 4294967295"),
        ([*TOY, "--method", ","], "--method ,: give names of methods"),
        (["--backbone", "toy", "--task", "fgvc/"], "--task fgvc/: name a set behind the slash"),
        ([*TOY, "--data-dir", ""], "argument --data-dir: invalid path value: ''"),
        ([*TOY, "--data-dir", "~nobody-of-this-name/x"], "argument --data-dir: invalid path value: '~nobody"),
        (
            [*TOY, "--set", "task.data_dir=~nobody-of-this-name/x"],
            "data_dir: '~nobody-of-this-name/x' is not a path",
        ),
        ([*TOY, "--results", ""], "argument --results: invalid path value: ''"),
        (["--backbone", "vit", "--task", "fgvc", "--set", "fgvc.image_size=99999999999"], "from 1 to 4,096"),
        ([*TOY, "--epochs", "many"], "protocol.epochs: 'many' is not an integer"),
        ([*TOY, "--epochs", "0"], "protocol: epochs must be from 1 to 1,000,000"),
        ([*TOY, "--batch-size", "-1"], "protocol: batch_size must be from 1 to 1,000,000"),
        ([*TOY, "--batch-size", str(10**19)], "protocol: batch_size must be from 1 to 1,000,000"),
        ([*TOY, "--set", "protocol.preset=paper"], "choose one by --preset"),
        ([*TOY, "--no-pretrained", "--set", "backbone.pretrained=true"], "backbone.pretrained is set twice"),
        ([*TOY, "--method", "lora", "--set", "lora.rank=10001"], "lora: rank must be 10,000 or less"),
        ([*TOY, "--set", "zero_gated.lenth=5"], "has no setting 'lenth'; did you mean 'length'?"),
        ([*TOY, "--set", "zerogated.length=5"], "this comparison has no 'zerogated'; did you mean 'zero_gated'?"),
        ([*TOY, "--set", "toy.examples=5"], "more than one part is called 'toy'; write backbone. or task."),
        ([*TOY, "--set", "length"], "is not of the form NAME.SETTING=VALUE"),
        ([*TOY, "--epochs", "1", "--set", "protocol.epochs=2"], "protocol.epochs is set twice"),
        ([*TOY, "--method", "zero_gated", "--set", "zero_gated.length=0"], "zero_gated: length must be 1 or more"),
        (["--backbone", "toy", "--task", "text"], "is a task on texts; the backbone toy takes images"),
        (["--backbone", "toy"], "required: --task"),
        ([*TOY, "--device", "cuda"], "--device cuda: this machine has none"),
        (["--backbone", "vit", "--checkpoint", "vit_bse_patch16_224", "--task", "fgvc"], "did you mean 'vit_base"),
        (["--backbone", "vit", "--task", "folder", "--data-dir", "nowhere"], "nowhere"),
        (["--backbone", "vit", "--task", "folder"], "data"),
        ([*TOY, "--results", __file__], "cannot write to"),
    ],
)
def test_a_mistake_ends_in_one_line_and_status_2(arguments, message, capsys):
    if "text" in arguments:
        registry.tasks.register("text", TextTask)
    if "--device" in arguments and "cuda" in arguments and pytest.importorskip("torch").cuda.is_available():
        arguments = [*TOY, "--device", "mps"]
        message = "--device mps: this machine has none"
    try:
        assert main(arguments) == 2
    finally:
        if "text" in arguments:
            registry.tasks.unregister("text")
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("zipeft: error: ")
    assert message in last
    assert "Traceback" not in err
    assert not files()


def test_every_task_has_presets_that_its_own_settings_and_the_methods_allow():
    for name in registry.tasks.names():
        task = registry.tasks.get(name)
        for preset in task.presets:
            (made,) = make_plan(_parse(["--backbone", _backbone(task), "--task", name, "--preset", preset]))
            assert made.contenders
            assert made.protocol.preset == preset


def _backbone(task: type[Task]) -> str:
    return next(name for name in registry.backbones.names() if registry.backbones.get(name).modality == task.modality)


@pytest.mark.slow
def test_a_step_of_every_method_at_the_real_size(capsys, tmp_path):
    from support.pictures import save_noisy

    for label, color in {"red": "red", "green": "green"}.items():
        for index in range(5):
            save_noisy(tmp_path / "pictures" / label / f"{index}.png", color, size=(224, 224 + index))
    arguments = ["--backbone", "vit", "--checkpoint", "vit_base_patch16_224", "--no-pretrained", "--task", "folder"]
    arguments += ["--data-dir", "pictures", "--method", "all", "--seeds", "1", "--steps", "2", "--batch-size", "2"]
    assert main([*arguments, "--set", "task.image_size=224", "--device", "cpu"]) == 0
    parameters = {r["method"]["name"]: r["cost"]["trainable_parameters"] for r in files().values()}
    assert parameters["zero_gated"] == 92_304
    assert parameters["linear"] == 0
    assert parameters["full"] == 85_798_656


def test_a_broken_picture_is_named_and_the_way_to_leave_it_out_works(capsys, tmp_path):
    from support.pictures import save_noisy

    for label, color in {"red": "red", "green": "green"}.items():
        for index in range(10):
            save_noisy(tmp_path / "pictures" / label / f"{index}.png", color, size=(16 + index, 16))
    (tmp_path / "pictures" / "red" / "3.png").write_bytes(b"not a picture")
    arguments = ["--backbone", "toy", "--task", "folder", "--data-dir", "pictures", "--device", "cpu", "--seeds", "1"]
    arguments += ["--method", "linear", "--steps", "1", "--set", "folder.image_size=16"]
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "3.png does not decode" in message
    assert "skip_broken=true" in message
    assert main([*arguments, "--set", "folder.skip_broken=true"]) == 0
