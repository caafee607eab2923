"""Benchmarks of lmms-eval on adapters: its score of a task is the one that zipeft computes itself."""

from __future__ import annotations

import importlib.util
import json
import sys

import PIL.Image
import pytest

from support import toys
from support.seeing_decoders import save_decoder, save_gated
from zipeft.adapters.saved import load_adapter
from zipeft.commands.lmms import main
from zipeft.objectives.options import Answer, Options
from zipeft.training.parallel import new_accelerator
from zipeft.vqa.question import VisualQuestion, picture_of

WORDS = ("red", "green", "blue", "What", "colour", "is", "it", "?", "Question", "Answer", ":")
COLOURS = WORDS[:3]

TASK = """\
task: {name}
dataset_path: {folder}/data
dataset_kwargs:
  load_from_disk: true
test_split: test
output_type: {kind}
doc_to_visual: !function images.of
doc_to_text: question
"""

CHOICE = """\
doc_to_choice: {choices}
doc_to_target: right
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""

WRITTEN = """\
doc_to_target: colour
generation_kwargs:
  max_new_tokens: 1
  until: []
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""

IMAGES = """\
import PIL.Image


def of(row):
    return [PIL.Image.open(path) for path in row["images"]]
"""

needs_lmms = pytest.mark.skipif(not importlib.util.find_spec("lmms_eval"), reason="lmms-eval is not installed")


@pytest.fixture(autouse=True)
def toys_known():
    with toys.registered():
        yield


def line(capsys, *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    (said,) = [each for each in capsys.readouterr().err.splitlines() if each.strip() and "%|" not in each]
    return said


def test_without_lmms_eval_it_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    monkeypatch.setitem(sys.modules, "lmms_eval.tasks", None)
    assert "pip install 'zipeft[lmms]'" in line(capsys, "--backbone", "toy_vlm", "--tasks", "pope")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "pope"], "give the folder of an adapter, or a --backbone"),
        (["somewhere", "--backbone", "vlm", "--tasks", "pope"], "give the folder of an adapter, or a --backbone"),
        (["--backbone", "vlm", "--tasks", "pope", "--limit", "0"], "--limit: 0 is out of range: give 1 or more"),
        (["--backbone", "vlm"], "--tasks"),
    ],
    ids=["neither", "both", "limit", "no task"],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert message in line(capsys, *arguments)


@pytest.fixture
def rows(tmp_path) -> list[dict]:
    """Questions on images that differ in their colour; the data set of them, and tasks of lmms-eval on it."""
    datasets = pytest.importorskip("datasets")
    made = []
    for number in range(24):
        path = tmp_path / f"{number}.png"
        PIL.Image.new("RGB", (12, 12), tuple(37 * number * factor % 256 for factor in (1, 3, 5))).save(path)
        right = number % 3
        made.append({"question": "What colour is it?", "images": [str(path)], "right": right, "colour": COLOURS[right]})
    datasets.DatasetDict({"test": datasets.Dataset.from_list(made)}).save_to_disk(tmp_path / "data")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "images.py").write_text(IMAGES)
    for name, kind, scoring in (
        ("colours", "multiple_choice", CHOICE.format(choices=list(COLOURS))),
        ("written_colours", "generate_until", WRITTEN),
    ):
        (tasks / f"{name}.yaml").write_text(TASK.format(name=name, folder=tmp_path, kind=kind) + scoring)
    return made


def scores_of(learner, rows) -> dict[str, float]:
    """Zipeft's own scores, by the evaluation that a task has."""
    from zipeft.api.data import Split
    from zipeft.training.dataset import encode
    from zipeft.training.evaluation import Evaluator
    from zipeft.vqa.windows import windows_of

    questions = [
        VisualQuestion(each["question"], COLOURS, picture_of(each["images"][0], each["images"][0]), name=str(at))
        for at, each in enumerate(rows)
    ]
    split = Split(questions, [Answer(each["right"], COLOURS) for each in rows], [each.name for each in questions])
    encoded = encode(split, windows_of(learner.backbone, False, 64), learner.backbone)
    evaluator = Evaluator(Options(max_new_tokens=1), new_accelerator())
    learner.to(evaluator.accelerator.device)
    scores, choices = evaluator.test(learner, encoded)
    worst = [
        min(range(3), key=choice.log_probs.__getitem__) == each["right"]
        for choice, each in zip(choices, rows, strict=True)
    ]
    assert scores["accuracy"] != sum(worst) / len(worst)  # or it would not tell what it takes the least of
    exact = [choice.written == each["colour"] for choice, each in zip(choices, rows, strict=True)]
    return {"acc": scores["accuracy"], "exact_match": sum(exact) / len(exact)}


@needs_lmms
@pytest.mark.slow
def test_its_scores_are_those_of_zipeft(capsys, tmp_path, rows):
    adapter = save_gated(tmp_path / "gated", save_decoder(tmp_path / "decoder", WORDS))
    learner, _ = load_adapter(adapter)
    expected = scores_of(learner, rows)
    assert all(0 < value < 1 for value in expected.values())  # or other answers would score the same
    out = tmp_path / "out.json"
    asked = ["--tasks", "colours", "written_colours", "--include", str(tmp_path / "tasks"), "--out", str(out)]
    assert main([str(adapter), *asked]) == 0
    found = json.loads(out.read_text())
    assert found["results"]["colours"]["acc,none"] == pytest.approx(expected["acc"])
    assert found["results"]["written_colours"]["exact_match,none"] == pytest.approx(expected["exact_match"])
    assert found["model"]["adapter"]["run"] == "run-of-the-test"
    assert f"{expected['acc']:.4f}" in capsys.readouterr().out


@needs_lmms
@pytest.mark.slow
def test_what_it_cannot_ask_is_one_line(capsys, tmp_path, rows):
    where = ("--include", tmp_path / "tasks")
    assert "lmms-eval has no task 'colour'; did you mean 'colours'" in line(
        capsys, "--backbone", "toy_vlm", "--tasks", "colour", *where
    )
    assert "no such folder" in line(capsys, "--backbone", "toy_vlm", "--tasks", "pope", "--include", tmp_path / "none")
    import datasets

    rows[3]["images"] *= 2
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "more")
    task = (tmp_path / "tasks/colours.yaml").read_text()
    (tmp_path / "tasks/colours.yaml").write_text(task.replace("/data", "/more"))
    error = line(capsys, "--backbone", "toy_vlm", "--tasks", "colours", *where)
    assert "colours, test 3 has 2 images" in error
