"""easy-vqa: splits by image, options by kind of question, and the published counts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from support.pictures import SPLITS, refusal
from support.toys import split_of
from support.vqa import examples, png
from zipeft.errors import UserError
from zipeft.objectives.options import Options
from zipeft.sources import package_archive
from zipeft.tasks.vqa import easy_vqa
from zipeft.tasks.vqa.task import VQA

QUESTIONS = [
    ("what shape is present?", "circle"),
    ("is there a red shape?", "yes"),
    ("what color is the shape?", "red"),
    ("is there not a circle?", "no"),
]


@pytest.fixture
def stand_in(monkeypatch):
    """Let a small archive stand in for the carrier; return its files, which a test may change."""
    files = {}
    for split, images in (("train", 20), ("test", 10)):
        asked = [(text, right, image) for image in range(images) for text, right in QUESTIONS]
        files[f"easy_vqa/data/{split}/questions.json"] = json.dumps(asked).encode()
        for image in range(images):
            files[f"easy_vqa/data/{split}/images/{image}.png"] = png((image, 0, len(split)))
    monkeypatch.setattr(package_archive, "contents", lambda carrier, pattern: files)
    return files


def pictures(data, split):
    return {question.picture.name for question, _ in examples(data, split)}


def test_no_image_is_in_two_splits(stand_in):
    data = VQA().load("easy-vqa")
    assert data.counts() == (72, 8, 40)
    assert [len(pictures(data, split)) for split in SPLITS] == [18, 2, 10]
    assert len(set().union(*(pictures(data, split) for split in SPLITS))) == 30
    names = [name for split in SPLITS for name in split_of(data, split).names]
    assert len(set(names)) == len(names) == 120
    assert pictures(VQA(split_seed=1).load("easy-vqa"), "validation") != pictures(data, "validation")
    assert pictures(VQA(split_seed=1).load("easy-vqa"), "test") == pictures(data, "test")


def test_options_follow_from_the_kind_of_question(stand_in):
    for question, answer in examples(VQA().load("easy-vqa"), "test"):
        kind = {"is": ("yes/no",), "what shape": ("open", "shape"), "what color": ("open", "colour")}
        assert answer.groups == next(groups for start, groups in kind.items() if question.question.startswith(start))
        assert question.options == answer.options == easy_vqa.KINDS[answer.groups]
        assert answer.options[answer.index] == dict(QUESTIONS)[question.question]
        assert answer.asked == question.question


def test_a_picture_is_the_one_that_is_asked_about(stand_in):
    for split in SPLITS:
        for question, _ in examples(VQA().load("easy-vqa"), split):
            folder, _, number = question.picture.name.removeprefix("easy-vqa ").partition("/")
            assert question.name.startswith(f"{folder}/{number}:")
            assert question.picture.read().getpixel((0, 0)) == (int(number), 0, len(folder))


def test_a_part_has_the_kinds_in_their_shares(stand_in):
    data = VQA(train_examples=16, validation_examples=4, test_examples=8).load("easy-vqa")
    assert data.counts() == (16, 4, 8)
    assert Counter(answer.groups[-1] for _, answer in examples(data, "train")) == {"yes/no": 8, "shape": 4, "colour": 4}
    assert "16 of 72 train, 4 of 8 validation, 8 of 40 test, the part chosen by kind with seed 0" in data.note
    assert data.checksum == VQA(train_examples=16, validation_examples=4, test_examples=8).load("easy-vqa").checksum
    assert data.checksum != VQA(train_examples=12, validation_examples=4, test_examples=8).load("easy-vqa").checksum


@pytest.mark.parametrize(
    "content",
    [b"{", b'[["what?", "purple", 0]]', b'[["what?", "red", 99]]', b'[["what?"]]', b"3", b'[["what?", "red", []]]'],
)
def test_a_file_that_is_not_as_expected_is_named(stand_in, content):
    stand_in["easy_vqa/data/train/questions.json"] = content
    with pytest.raises(UserError, match=r"carrier easy-vqa 1.0: .*questions\.json is not as expected"):
        VQA().load("easy-vqa")


def test_a_folder_and_an_unknown_set_are_refused(stand_in, tmp_path):
    with pytest.raises(ValueError, match="drop --data-dir"):
        VQA(data_dir=tmp_path)
    assert "no data set 'easy_vqb' embedded; did you mean 'easy-vqa'?" in refusal(VQA().load, "easy_vqb")


@pytest.mark.slow
def test_the_real_easy_vqa():
    data = VQA().load("easy-vqa")
    assert sum(data.counts()[:2]) == 38_575
    assert [len(pictures(data, split)) for split in SPLITS] == [3_600, 400, 1_000]
    assert len(set().union(*(pictures(data, split) for split in SPLITS))) == 5_000
    test = examples(data, "test")
    kinds = Counter(answer.groups for _, answer in test)
    assert kinds == {("yes/no",): 7_136, ("open", "shape"): 1_257, ("open", "colour"): 1_280}
    pixels = {question.picture.name: question.picture.read().tobytes() for question, _ in test}
    assert len(set(pixels.values())) == 1_000
    assert {question.question for question, _ in test} <= {question.question for question, _ in examples(data, "train")}


@pytest.mark.slow
def test_neither_words_nor_image_suffice_on_the_real_easy_vqa():
    data = VQA().load("easy-vqa")
    test = split_of(data, "test").targets
    learnt = Options().trivial([*data.train.targets, *data.validation.targets], [])
    assert learnt.scores((), test)["accuracy"] == pytest.approx(0.669, abs=0.001)
    at_best = Options().trivial(test, [])
    assert at_best.scores((), test)["accuracy"] == pytest.approx(0.678, abs=0.001)
    by_image = defaultdict(Counter)
    for question, answer in examples(data, "test"):
        by_image[question.picture.name][answer.options[answer.index]] += 1
    assert sum(max(counts.values()) for counts in by_image.values()) / len(test) == pytest.approx(0.473, abs=0.001)
