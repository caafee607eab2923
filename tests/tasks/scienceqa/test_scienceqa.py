"""ScienceQA: the columns of its table, its presets, and the way from a folder to a page."""

from __future__ import annotations

import json
import re
from statistics import fmean

import pytest

from support.pictures import refusal
from support.scienceqa import problem, splits, write_folder
from support.toys import registered
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.settings import override
from zipeft.objectives.options import Answer, Choice
from zipeft.tasks.scienceqa import ScienceQA
from zipeft.tasks.scienceqa.problems import CATEGORIES

COLUMNS = ["Avg", "NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12"]
"""Those of the paper's table."""


def test_accuracies_by_category_equal_those_by_hand():
    rows = [  # what is chosen, what is right, what is written, and the groups, not in the table's order
        (0, 0, "A", "SOC TXT G7-12"),
        (1, 0, "The answer is A.", "NAT NO G1-6"),
        (2, 2, "(C)", "NAT TXT IMG G1-6"),
        (1, 1, "because", "LAN IMG G7-12"),
        (0, 1, "B", "NAT IMG G1-6"),
    ]
    options = ("one", "two", "three")
    answers = [Answer(right, options, tuple(groups.split())) for _, right, _, groups in rows]
    choices = [Choice(chosen, (-1.0, -2.0, -3.0), written) for chosen, _, written, _ in rows]
    scores = ScienceQA().objective("school", []).score(choices, answers)
    assert scores == {
        "accuracy": 3 / 5,
        "NAT": 1 / 3,
        "SOC": 1.0,
        "LAN": 1.0,
        "TXT": 1.0,
        "IMG": 2 / 3,
        "NO": 0.0,
        "G1-6": 1 / 3,
        "G7-12": 1.0,
        "written_accuracy": 4 / 5,
    }
    assert list(scores) == ["accuracy", *COLUMNS[1:], "written_accuracy"]


def test_published_rows_have_the_columns_of_the_table():
    table, *_ = ScienceQA.published
    assert list(table.columns) == ["params", *COLUMNS]
    assert list(CATEGORIES) == COLUMNS[1:]
    text, images = table.rows["LLaMA-Adapter (text)"], table.rows["LLaMA-Adapter"]
    assert (text[0], text[1], text[6]) == ("1.2M", "78.31", "70.35")
    assert (images[0], images[1], images[6]) == ("1.8M", "85.19", "80.32")
    # An average lies between those of the subjects, which divide the problems; so do the grades.
    for name, (_, average, *others) in table.rows.items():
        nat, soc, lan, _, _, _, low, high = map(float, others)
        assert min(nat, soc, lan) <= float(average) <= max(nat, soc, lan), name
        assert min(low, high) <= float(average) <= max(low, high), name


@pytest.mark.parametrize("preset", ["quick", "standard", "paper"])
def test_presets_are_settings_of_the_task_and_of_methods(preset):
    chosen = ScienceQA.presets[preset]
    assert ScienceQA(**chosen.task).max_new_tokens > 0
    assert TrainingProtocol(preset=preset, **chosen.protocol).epochs == (30 if preset == "paper" else 1)
    for name in chosen.methods:
        assert registry.methods.make(name, chosen.settings.get(name, {})).plugin
    for name, settings in chosen.settings.items():
        assert registry.methods.make(name, settings).plugin.learning_rate == settings["learning_rate"]
    assert {"zero_gated", "zero_gated_blind", "untuned"} <= set(chosen.methods)


def test_the_papers_learning_rate_follows_its_batch():
    paper = ScienceQA.presets["paper"]
    rate = 9e-3 * paper.protocol["batch_size"] / 256
    assert paper.settings["zero_gated"]["learning_rate"] == pytest.approx(rate)
    assert paper.protocol["warmup"] == 2 / 5


def test_a_task_without_a_folder_says_what_to_do(tmp_path):
    assert "name a folder with --data-dir" in refusal(ScienceQA().datasets)
    assert "no data set 'cub', only" in refusal(ScienceQA(data_dir=tmp_path).load, "cub")
    assert "images: 'hiden' is not one of" in refusal(override, ScienceQA, {"images": "hiden"}, "scienceqa")


def test_a_folder_goes_from_the_command_to_the_nine_columns(tmp_path, monkeypatch, capsys):
    from zipeft.commands.leaderboard import main as leaderboard
    from zipeft.commands.run import main

    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "school", ids=splits(24, 12, 24))
    arguments = ["--backbone", "toy_vlm", "--task", "scienceqa", "--data-dir", "school", "--device", "cpu"]
    arguments += ["--method", "untuned", "zero_gated", "zero_gated_blind", "lora", "--seeds", "2", "--epochs", "1"]
    arguments += ["--set", "task.max_length=56"]
    with registered():
        assert main(arguments) == 0
        assert leaderboard(["results", "--out", "pages"]) == 0
    capsys.readouterr()
    results = [json.loads(path.read_text()) for path in (tmp_path / "results").rglob("*-seed*.json")]
    assert len(results) == 8
    tested = [problem(number) for number in range(37, 61)]
    members = {
        "NAT": [each["subject"] == "natural science" for each in tested],
        "SOC": [each["subject"] == "social science" for each in tested],
        "LAN": [each["subject"] == "language science" for each in tested],
        "TXT": [bool(each["hint"]) for each in tested],
        "IMG": [bool(each["image"]) for each in tested],
        "NO": [not each["hint"] and not each["image"] for each in tested],
        "G1-6": [int(each["grade"][5:]) < 7 for each in tested],
        "G7-12": [int(each["grade"][5:]) > 6 for each in tested],
    }
    for record in results:
        right = [float(chosen == each["answer"]) for chosen, each in zip(record["predictions"], tested, strict=True)]
        assert record["test"]["accuracy"] == pytest.approx(fmean(right))
        for name, belongs in members.items():
            own = [score for score, member in zip(right, belongs, strict=True) if member]
            assert record["test"][name] == pytest.approx(fmean(own)), name
        assert 0 <= record["test"]["written_accuracy"] <= 1
    page = (tmp_path / "pages" / "toy_vlm-scienceqa.md").read_text()
    headers = [re.findall(r"[\w-]+", line) for line in page.splitlines() if line.startswith("| method")]
    assert ["method", *COLUMNS[1:], "written_accuracy", "Avg"] in headers
    assert "the accuracy over all questions, by which rows are ranked" in page
    (table,) = re.findall(r"\| LLaMA-Adapter +\|.*", page)
    assert [cell.strip() for cell in table.strip("| ").split("|")][1:] == list(
        ScienceQA.published[0].rows["LLaMA-Adapter"]
    )


def test_a_broken_folder_is_one_line_of_the_command(tmp_path, monkeypatch, capsys):
    from zipeft.commands.run import main

    monkeypatch.chdir(tmp_path)
    image = write_folder(tmp_path / "school") / "test" / "19" / "image.png"
    arguments = ["--backbone", "toy_vlm", "--task", "scienceqa", "--data-dir", "school", "--device", "cpu"]
    arguments += ["--method", "untuned", "--seeds", "1", "--set", "task.max_length=56"]
    image.write_bytes(b"no image")
    with registered():
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert f"{image} does not decode" in said[-1]
        assert "Traceback" not in "".join(said)
        image.unlink()
        assert main(arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert "problems.json: problem 19 names the image image.png, which is not there: add it" in said[-1]
        assert main([*arguments, "--set", "task.skip_broken=true"]) == 0
    assert not list((tmp_path / "results").rglob("*-seed1.json"))
