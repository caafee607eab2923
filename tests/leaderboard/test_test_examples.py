"""Test images on a board's page: which are shown, by which licence, beside whose answers, and from which file."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from support.leaderboard_factory import cells
from support.result_factory import make_result
from support.toys import ToyVQA, registered
from zipeft import registry
from zipeft.api.sealed import TestLocked
from zipeft.api.settings import as_json
from zipeft.commands.leaderboard import main
from zipeft.leaderboard.answers import shown_rows
from zipeft.leaderboard.ranking import summary_rows
from zipeft.results import save_result
from zipeft.tasks.vqa.task import VQA

CREDIT = "drawn <by> a toy"
SCORES = {"lora": 0.5, "zero_gated": 0.75, "zero_gated_blind": 0.25, "prompt": 0.6, "lora_unasked": 0.7}


class Credited(ToyVQA):
    def credit(self, dataset):
        return CREDIT


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr("zipeft.leaderboard.build._figures", lambda *_: ())  # plots take longer than all the rest
    with registered():
        registry.tasks.register("credited", Credited)
        yield
        registry.tasks.unregister("credited")


def results(task="credited", scores=SCORES):
    """Results on all test questions, of which each method answers another part right; seeds from 1."""
    plugin = registry.tasks.get(task)()
    data = plugin.load("films")
    targets = [index % 3 for index in range(len(data.test))]
    about = {"task.name": task, "task.checksum": data.checksum, "task.settings": as_json(plugin)}
    made = []
    for method, score in scores.items():
        wrong = [index / len(targets) >= score for index in range(len(targets))]
        for seed in (1, 2):
            result = make_result(method, "films", seed, items=len(targets), **about)
            scored = tuple(1.0 - each for each in wrong)
            answers = tuple((right + each) % 3 for right, each in zip(targets, wrong, strict=True))
            changes = {"targets": tuple(targets), "predictions": answers, "item_scores": scored}
            made.append(replace(result, **changes, test={"accuracy": sum(scored) / len(scored)}))
    return made


def board(tmp_path, made, *options):
    """Save results and write their boards; return the pages by name."""
    for result in made:
        save_result(tmp_path / "results", result)
    assert main([str(tmp_path / "results"), "--out", str(tmp_path), *options]) == 0
    return {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()}


class Gallery(HTMLParser):
    """The images of a page's gallery and all texts in it."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.images, self.texts = False, [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.inside = self.inside or given.get("class") == "gallery"
        if tag == "img":
            self.images.append(given["src"])

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "ul"

    def handle_data(self, data):
        if self.inside and data.strip():
            self.texts.append(" ".join(data.split()))


def examples_in(tmp_path):
    (path,) = (tmp_path / "results").rglob("*.examples.json")
    assert path.name == "films.examples.json"
    return path, json.loads(path.read_text())


def test_a_page_shows_a_dozen_test_images_with_three_methods_answers(tmp_path):
    made = results()
    pages = board(tmp_path, made, "--examples")
    path, content = examples_in(tmp_path)
    assert path.parent == tmp_path / "results" / "vit-credited"
    assert len(content["examples"]) == 12
    gallery = Gallery(pages["vit-credited.html"])
    prefix = "data:image/png;base64,"
    assert gallery.images == [prefix + each["image"] for each in content["examples"]]
    by_method = {result.method.name: result for result in made if result.seed == 1}
    expected = []
    for each in content["examples"]:
        expected += [each["asked"], f"Right: {each['options'][each['right']]}"]
        for method in ("zero_gated", "zero_gated_blind", "prompt"):
            answer = by_method[method].predictions[each["index"]]
            expected += [method, f"{each['options'][answer]} {'✓' if answer == each['right'] else '✗'}"]
    assert gallery.texts == expected
    assert {text[-1] for text in gallery.texts if text[-1] in "✓✗"} == {"✓", "✗"}
    assert "Images: drawn &lt;by&gt; a toy." in pages["vit-credited.html"]
    assert "that zero_gated, zero_gated_blind and prompt found likeliest, seed 1" in pages["vit-credited.html"]


def test_examples_are_what_the_test_split_holds_at_their_places(tmp_path):
    from support.toys import split_of

    board(tmp_path, results(), "--examples")
    test = split_of(ToyVQA().load("films"), "test")
    _, content = examples_in(tmp_path)
    assert len({each["index"] for each in content["examples"]}) == 12
    for each in content["examples"]:
        question, answer = test.examples[each["index"]], test.targets[each["index"]]
        assert (each["asked"], each["options"], each["right"]) == (
            question.question,
            list(answer.options),
            answer.index,
        )
        assert base64.b64decode(each["image"]).startswith(b"\x89PNG")
        assert question.picture is not None


def test_pages_are_made_again_without_the_data(tmp_path, monkeypatch, capsys):
    pages = board(tmp_path, results(), "--examples")
    monkeypatch.setattr(ToyVQA, "load", lambda *_: pytest.fail("the data were asked for"))
    assert board(tmp_path, []) == pages
    assert capsys.readouterr().err == ""  # the file beside the results is not taken for one
    table = cells(pages["vit-credited.md"])  # without images, which no code host shows from a page
    assert table["question"] == ["right answer", "zero_gated", "zero_gated_blind", "prompt"]
    assert "base64" not in pages["vit-credited.md"]


def test_no_data_set_is_shown_that_names_no_licence(tmp_path):
    pages = board(tmp_path, results("toy_vlm"), "--examples")
    assert list((tmp_path / "results").rglob("*.examples.json")) == []
    assert Gallery(pages["vit-toy_vlm.html"]).images == []
    task = VQA()
    assert "MIT" in task.credit("easy-vqa")
    assert all("CC BY 4.0" in task.credit(name) for name in task.datasets() if name.startswith("emoji"))
    assert task.credit("cifar10-existence") == ""


def test_examples_of_other_data_are_not_shown(tmp_path, capsys):
    made = results()
    board(tmp_path, made, "--examples")
    newer = [replace(each, task=replace(each.task, checksum="0" * 64)) for each in made]
    pages = board(tmp_path / "new", newer)
    assert Gallery(pages["vit-credited.html"]).images == []
    path, _ = examples_in(tmp_path)
    (tmp_path / "new" / "results" / "vit-credited" / path.name).write_bytes(path.read_bytes())
    pages = board(tmp_path / "new", [])
    assert Gallery(pages["vit-credited.html"]).images == []
    assert main([str(tmp_path / "new" / "results"), "--out", str(tmp_path), "--examples"]) == 2
    assert "the data of films are not those of its results" in capsys.readouterr().err


BROKEN = {
    "no JSON": lambda content: "{",
    "a list": lambda content: "[]",
    "no image": lambda content: json.dumps({**content, "examples": [{**content["examples"][0], "image": "PHN2Zz4="}]}),
    "no such option": lambda content: json.dumps({**content, "examples": [{**content["examples"][0], "right": 3}]}),
    "another field": lambda content: json.dumps({**content, "examples": [{**content["examples"][0], "x": 3}]}),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_of_examples_is_named(kind, tmp_path, capsys):
    board(tmp_path, results(), "--examples")
    path, content = examples_in(tmp_path)
    path.write_text(BROKEN[kind](content))
    capsys.readouterr()
    assert main([str(tmp_path / "results"), "--out", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert f"{path}: it holds no examples" in line
    assert line.count("\n") == 1
    assert main([str(tmp_path / "results"), "--out", str(tmp_path), "--examples"]) == 0  # makes it again


RULES = [
    (("lora", "zero_gated", "zero_gated_blind", "prompt"), ("zero_gated", "zero_gated_blind", "lora")),
    (("lora", "lora_blind", "zero_gated_blind", "zero_gated"), ("lora", "lora_blind", "zero_gated")),
    (("lora_unasked", "zero_gated", "zero_gated_blind"), ("zero_gated", "zero_gated_blind")),
    (("lora", "prompt", "zero_gated", "full"), ("lora", "prompt", "zero_gated")),
    (("lora", "zero_gated_blind"), ("lora", "zero_gated_blind")),
]


@pytest.mark.parametrize(("there", "shown"), RULES)
def test_the_three_methods_are_chosen_by_a_rule(there, shown):
    rows = summary_rows(make_result(name, score=0.9 - 0.1 * place) for place, name in enumerate(there))
    assert tuple(row.label for row in rows) == there
    assert tuple(row.label for row in shown_rows(rows)) == shown


def test_examples_do_not_open_the_lock_for_training(tmp_path):
    from zipeft.api import sealed
    from zipeft.leaderboard.examples_file import examples_of

    (result, *_) = results()
    with sealed.training("a method"), pytest.raises(TestLocked):
        examples_of(result)
