"""Questions for yes and no in pairs: what is there, and what is not."""

from __future__ import annotations

import base64
import json
from collections import Counter

import pytest

from support.pictures import SPLITS
from support.toys import split_of
from support.vqa import check_pairs, examples, png
from zipeft.objectives.options import Options
from zipeft.sources.package_index import sha256_of
from zipeft.tasks import bigbench_archive
from zipeft.tasks.vqa.cifar10 import with_article
from zipeft.tasks.vqa.existence import absent
from zipeft.tasks.vqa.task import VQA

CLASSES = ("airplane", "bird", "cat", "dog")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Let 40 photographs of four classes stand in for CIFAR-10's."""
    labels = [name for name in CLASSES for _ in range(10)]
    records = [
        {
            "input": base64.b64encode(png((index, 9, 9))).decode(),
            "target_scores": {name: int(name == label) for name in CLASSES},
        }
        for index, label in enumerate(labels)
    ]
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"examples": records}))
    monkeypatch.setattr(bigbench_archive, "benchmark_files", lambda *paths: [path])
    monkeypatch.setattr(bigbench_archive, "CIFAR_SHA256", sha256_of(path))
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_every_thing_is_as_often_absent_as_present(seed):
    things = ["a"] * 7 + ["b"] * 5 + ["c"] * 2
    other = absent(things, seed)
    assert all(one != two for one, two in zip(things, other, strict=True))
    assert Counter(other) == Counter(things)
    assert other == absent(things, seed)


def test_a_thing_in_most_pictures_cannot_be_absent_as_often():
    assert absent(["a", "b"], 0) == ["b", "a"]
    with pytest.raises(ValueError, match="more than half"):
        absent(["a", "a", "b"], 0)


def test_articles():
    assert [with_article(label) for label in ("airplane", "dog", "automobile")] == [
        "an airplane",
        "a dog",
        "an automobile",
    ]


def test_photographs_are_asked_about_twice(photos):
    data = VQA().load("cifar10-existence")
    assert {split: len(seen) for split, seen in check_pairs(data).items()} == {"train": 28, "validation": 4, "test": 8}
    for split in SPLITS:
        for question, answer in examples(data, split):
            index = int(question.picture.name.split()[1])
            assert question.picture.read().getpixel((0, 0)) == (index, 9, 9)
            thing = question.question.removeprefix("Is there ").removesuffix(" in this photo?")
            assert (thing == with_article(photos[index])) == (answer.options[answer.index] == "yes")


def test_a_part_has_whole_pairs(photos):
    data = VQA(train_examples=10, validation_examples=3, test_examples=8).load("cifar10-existence")
    assert data.counts() == (10, 4, 8)
    for split in SPLITS:
        assert set(Counter(answer.pair for _, answer in examples(data, split)).values()) == {2}
    assert Counter(question.question for question, answer in examples(data, "test") if answer.index == 0) == {
        f"Is there {with_article(label)} in this photo?": 1 for label in CLASSES
    }


def test_the_test_photographs_do_not_depend_on_the_seed(photos):
    one, other = (VQA(split_seed=seed).load("cifar10-existence") for seed in (0, 1))
    assert split_of(one, "test").names == split_of(other, "test").names
    assert one.validation.names != other.validation.names
    assert VQA().load("cifar10-existence").checksum == one.checksum != other.checksum


@pytest.mark.slow
def test_the_real_photographs():
    data = VQA().load("cifar10-existence")
    assert data.counts() == (14_000, 2_000, 4_000)
    check_pairs(data)
    scores = Options().trivial(data.train.targets, []).scores((), split_of(data, "test").targets)
    assert scores["accuracy"] == 0.5
    assert examples(data, "test")[0][0].picture.read().size == (32, 32)
