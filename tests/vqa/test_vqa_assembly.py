"""From questions to a data set: what is taken, what is refused or left out, and what the checksum covers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from support.pictures import SPLITS, refusal
from zipeft.api.data import Picture
from zipeft.images.reading import BrokenImage
from zipeft.objectives.options import Answer
from zipeft.vqa.assembly import by_answer, fault, vqa_data, without_broken
from zipeft.vqa.question import VisualQuestion


def asked(name, *, picture=None, index=0, group="a", pair=""):
    options = ("red", "blue", "green")
    return VisualQuestion("Which?", options, picture, "", name), Answer(index, options, (group,), pair, "Which?")


def splits(count=12, **options):
    return {
        split: [asked(f"{split} {at}", group="ab"[at % 3 == 0], **options) for at in range(count)] for split in SPLITS
    }


def build(parts, limits=None, seed=0, **options):
    return vqa_data("toy", parts, limits=limits or {}, seed=seed, source="folder toy", **options)


def test_all_is_taken_in_its_order():
    data = build(splits(), notes=["from a toy"])
    assert data.counts() == (12, 12, 12)
    assert data.train.names == [f"train {at}" for at in range(12)]
    assert list(data.classes) == []
    assert data.note == "from a toy; questions: 12 train, 12 validation, 12 test"


def test_a_part_has_each_group_in_its_share():
    data = build(splits(), {"train": 6, "test": 3})
    assert Counter(answer.groups[0] for answer in data.train.targets) == {"a": 4, "b": 2}
    assert data.note == "questions: 6 of 12 train, 12 validation, 3 of 12 test, the part chosen by kind with seed 0"
    assert data.train.names != build(splits(), {"train": 6}, seed=1).train.names


def test_a_part_may_be_chosen_by_the_answer():
    parts = {split: [asked(f"{split} {at}", index=at % 3 // 2) for at in range(12)] for split in SPLITS}
    data = build(parts, {"train": 6}, strata=by_answer)
    assert Counter(answer.index for answer in data.train.targets) == {0: 4, 1: 2}


@pytest.mark.parametrize("limit", range(1, 13))
def test_pairs_are_taken_whole(limit):
    parts = {split: [asked(f"{split} {at}", pair=f"{at // 2}") for at in range(12)] for split in SPLITS}
    data = build(parts, {"train": limit})
    assert set(Counter(answer.pair for answer in data.train.targets).values()) == {2}
    assert len(data.train) in ({limit} if limit % 2 == 0 else {limit - 1, limit + 1})


@pytest.mark.parametrize("index", [-1, 3])
def test_an_answer_that_is_no_option_is_refused_or_left_out(index):
    parts = splits()
    parts["train"][4] = asked("train 4", index=index)
    said = refusal(build, parts)
    assert said == (
        f"train 4: its answer is number {index}, counted from 0, of 3 options: "
        "repair it, or set skip_broken=true to leave such questions out"
    )
    kept, notes = without_broken(parts)
    assert notes == ["1 broken question left out"]
    assert len(build(kept).train) == 11
    assert not fault(asked("whole", index=2))


def test_broken_pictures_are_read_once_and_left_out():
    reads = Counter()

    def read(name):
        reads[name] += 1
        if name == "bad":
            raise BrokenImage("bad.png", "cut off")

    pictures = {name: Picture(name, lambda name=name: read(name)) for name in ("good", "bad")}
    parts = {
        split: [asked(f"{split} {at}", picture=pictures[name]) for at, name in enumerate(["good", "bad", "bad"])]
        for split in SPLITS
    }
    kept, notes = without_broken(parts)
    assert {split: [question.name for question, _ in some] for split, some in kept.items()} == {
        split: [f"{split} 0"] for split in SPLITS
    }
    assert notes == ["6 broken questions left out"]
    assert reads == {"good": 1, "bad": 1}
    assert without_broken(splits()) == (splits(), [])


def test_a_split_without_questions_is_refused():
    assert refusal(build, splits() | {"test": []}) == (
        "folder toy has too few questions to have one for test: add some"
    )


def changed(split, change):
    parts = splits(picture=Picture("one", lambda: None))
    question, answer = parts[split][0]
    parts[split][0] = change(question, answer)
    return build(parts).checksum


def test_the_checksum_covers_all_that_is_taken():
    same = changed("train", lambda question, answer: (question, answer))
    assert same == build(splits(picture=Picture("one", lambda: 3))).checksum
    changes = [
        lambda question, answer: (question._replace(question="What?"), answer),
        lambda question, answer: (question._replace(context="So."), answer),
        lambda question, answer: (question._replace(picture=Picture("two", lambda: None)), answer),
        lambda question, answer: (question._replace(picture=None), answer),
        lambda question, answer: (question, replace(answer, index=1)),
        lambda question, answer: (question, replace(answer, groups=("c",))),
        lambda question, answer: (question, replace(answer, pair="1")),
    ]
    found = [changed(split, change) for split in SPLITS for change in changes]
    assert len({same, *found}) == len(found) + 1
    parts = splits(picture=Picture("one", lambda: None))
    assert build(parts, content="pixels").checksum not in (same, build(parts, content="others").checksum)
