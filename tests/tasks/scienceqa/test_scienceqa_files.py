"""ScienceQA's folder: what is read of it, and what is refused with the file and the problem, or skipped if asked."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from support.pictures import SPLITS, names, refusal
from support.scienceqa import color_of, problem, splits, write_folder
from support.toys import ToyVLM, split_of
from zipeft.tasks.scienceqa import ScienceQA
from zipeft.vqa.windows import by_letters


def load(folder, **settings):
    return ScienceQA(data_dir=folder, **settings).load(folder.name)


def items(data):
    """Return the question and the answer of every id."""
    parts = [split_of(data, split) for split in SPLITS]
    found = [pair for part in parts for pair in zip(part.examples, part.targets, strict=True)]
    return {question.name.removeprefix("problem "): (question, answer) for question, answer in found}


@pytest.mark.parametrize("images", ["", "images"])
def test_a_folder_in_the_published_layout_is_read(tmp_path, images):
    data = load(write_folder(tmp_path / "school", images=images))
    ids = splits()
    assert names(data) == {
        split: [f"problem {number}" for number in ids[own]]
        for split, own in zip(SPLITS, ("train", "val", "test"), strict=True)
    }
    assert (data.name, data.source) == ("school", "folder school")
    for number, (question, answer) in items(data).items():
        own = problem(int(number))
        assert (question.question, question.context) == (own["question"], own["hint"])
        assert question.options == answer.options == tuple(own["choices"])
        assert answer.index == own["answer"]
        assert (question.picture is None) == (own["image"] is None)
        if question.picture:
            assert question.picture.read().getpixel((0, 0)) == color_of(number)


def test_a_question_is_put_in_the_papers_order_and_no_lecture_is_told(tmp_path):
    asked = items(load(write_folder(tmp_path)))
    assert "".join(by_letters(asked["5"][0])) == (
        "Question: was it 5 a a the\nContext: the film 5\nOptions: (A) good (B) bad (C) so\nAnswer: The answer is"
    )
    assert "\nContext: N/A\nOptions: (A) good (B) bad\nAnswer" in "".join(by_letters(asked["2"][0]))


@pytest.mark.parametrize(
    ("fields", "groups"),
    [
        ({"subject": "natural science", "hint": "", "image": None, "grade": "grade6"}, "NAT NO G1-6"),
        ({"subject": "social science", "hint": "a text", "image": None, "grade": "grade7"}, "SOC TXT G7-12"),
        ({"subject": "language science", "hint": "", "grade": "grade12"}, "LAN IMG G7-12"),
        ({"subject": "natural science", "hint": "a text", "grade": "grade1"}, "NAT TXT IMG G1-6"),
        ({"subject": "natural science", "hint": None, "image": "", "grade": "grade10"}, "NAT NO G7-12"),
    ],
)
def test_a_problem_counts_for_its_categories(tmp_path, fields, groups):
    ids = splits(1, 1, 1)
    problems = {number: problem(int(number)) for number in "123"} | {"3": problem(1, **fields)}
    assert items(load(write_folder(tmp_path, problems, ids)))["3"][1].groups == tuple(groups.split())


def test_categories_are_counted_by_hand(tmp_path):
    """Test problems are 19 to 30, every third of a subject; odd ones have an image, 20, 21, 24, 25, 28, 29 a hint."""
    data = load(write_folder(tmp_path))
    found = Counter(group for answer in split_of(data, "test").targets for group in answer.groups)
    # Without image and hint: 22, 26, 30. Grades 1 to 6 have 24 to 29.
    assert found == {"NAT": 4, "SOC": 4, "LAN": 4, "TXT": 6, "IMG": 6, "NO": 3, "G1-6": 6, "G7-12": 6}
    assert "all problems for test: 4 NAT, 4 SOC, 4 LAN, 6 TXT, 6 IMG, 3 NO, 6 G1-6, 6 G7-12" in data.note


def test_a_problem_without_an_image_shows_none(tmp_path):
    task, backbone = ScienceQA(data_dir=write_folder(tmp_path), max_length=48, max_new_tokens=4), ToyVLM()
    asked, windows = items(task.load(tmp_path.name)), task.windows(backbone)
    for number, shown in (("5", True), ("6", False)):
        ((inputs, target, _),) = windows(*asked[number])
        assert bool(inputs["has_image"]) == bool(inputs["image"].any()) == shown
        assert target == asked[number][1].index
        assert int(inputs["branches"].max()) == len(asked[number][0].options)


# --- parts of the data set --------------------------------------------------------------------------------------------


def test_a_part_of_the_problems_under_another_name_is_read(tmp_path):
    """A part of the set may lack problems that are in its splits, and images."""
    problems = {str(number): problem(number) for number in (1, 2, 13, 14, 19, 20, 99)}
    write_folder(tmp_path, problems)
    (tmp_path / "problems.json").rename(tmp_path / "problems_part.json")
    data = load(tmp_path)
    assert data.counts() == (2, 2, 2)
    assert "left out: 24 ids of pid_splits.json without a problem" in data.note


def test_images_can_be_hidden_or_their_problems_left_out(tmp_path):
    write_folder(tmp_path)
    shown = load(tmp_path)
    for image in tmp_path.rglob("image.png"):
        image.unlink()
    hidden = load(tmp_path, images="hidden")
    assert names(hidden) == names(shown)
    assert [answer for _, answer in items(hidden).values()] == [answer for _, answer in items(shown).values()]
    assert not any(question.picture for question, _ in items(hidden).values())
    left = load(tmp_path, images="left_out")
    assert left.counts() == (6, 3, 6)
    assert all(int(number) % 2 == 0 for number in items(left))
    assert "left out: 15 problems on an image" in left.note
    assert len({shown.checksum, hidden.checksum, left.checksum}) == 3


def test_the_published_counts_are_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr("zipeft.tasks.scienceqa.files.OFFICIAL", {"train": 12, "validation": 6, "test": 12})
    assert load(write_folder(tmp_path)).note.startswith("all 30 of the published splits; ")
    assert "published" not in load(tmp_path, images="left_out").note


def test_a_checksum_covers_texts_answers_and_pixels(tmp_path):
    sums = {load(write_folder(tmp_path)).checksum}
    problems = {number: problem(int(number)) for number in items(load(tmp_path))}
    for change in ({"question": "who"}, {"answer": 0}, {"hint": "so"}, {"grade": "grade9"}):
        sums.add(load(write_folder(tmp_path, problems | {"1": problem(1, **change)})).checksum)
    (tmp_path / "train" / "1" / "image.png").write_bytes((tmp_path / "train" / "3" / "image.png").read_bytes())
    sums.add(load(write_folder(tmp_path / "again", problems)).checksum)
    assert len(sums) == 5
    sums.add(load(tmp_path).checksum)
    assert len(sums) == 6


def test_parts_keep_the_shares_of_categories(tmp_path):
    whole = load(write_folder(tmp_path, ids=splits(96, 24, 96)))
    part = load(tmp_path, train_examples=24, test_examples=48)
    assert part.counts() == (24, 24, 48)
    counts = [Counter(g for a in split_of(data, "test").targets for g in a.groups) for data in (whole, part)]
    assert all(abs(counts[1][group] - count / 2) <= 2 for group, count in counts[0].items())
    assert names(load(tmp_path, train_examples=24, split_seed=1))["train"] != names(part)["train"]


# --- what is refused --------------------------------------------------------------------------------------------------

BROKEN = {
    "an answer beyond its options": ({"answer": 3}, "has the answer 3, and its options are 0 to 2"),
    "an answer before them": ({"answer": -1}, "has the answer -1"),
    "an answer in words": ({"answer": "good"}, "has the answer 'good'"),
    "an answer that is a truth": ({"answer": True}, "has the answer True"),
    "one option": ({"choices": ["good"], "answer": 0}, "has no list of 2 to 26 choices"),
    "no options": ({"choices": None}, "has no list of 2 to 26 choices"),
    "too many options": ({"choices": list("abcdefghijklmnopqrstuvwxyz0")}, "has no list of 2 to 26 choices"),
    "an option that is a number": ({"choices": ["good", 2]}, "has no choice that is text"),
    "no question": ({"question": None}, "has no question that is text"),
    "a blank question": ({"question": "  "}, "has a blank question"),
    "half of a character": ({"hint": "\ud83d"}, "has half of a surrogate pair in its hint"),
    "a hint that is a list": ({"hint": ["so"]}, "has no hint that is text"),
    "an unknown subject": ({"subject": "sports"}, "has the subject 'sports': give one of natural science, social"),
    "an unknown grade": ({"grade": "grade13"}, "has the grade 'grade13': give grade1 to grade12"),
    "a grade without a number": ({"grade": "high school"}, "has the grade 'high school'"),
    "no grade": ({"grade": None}, "has no grade that is text"),
    "a missing image": ({"image": "picture.png"}, "names the image picture.png, which is not there"),
    "an image elsewhere": ({"image": "../../secret.png"}, "names the image '../../secret.png', which is no plain"),
    "an image of no name": ({"image": 7}, "has no image that is text"),
}


@pytest.mark.parametrize(("fields", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_problem_is_refused_by_name_or_skipped(tmp_path, caplog, fields, said):
    problems = {str(number): problem(number) for number in range(1, 31)}
    write_folder(tmp_path, problems | {"5": problem(5, **fields)})
    (tmp_path / "secret.png").write_bytes(b"")
    line = refusal(load, tmp_path)
    assert line.startswith(f"{tmp_path / 'problems.json'}: problem 5 {said}")
    assert line.endswith("; scienceqa.skip_broken=true leaves such problems out")
    data = load(tmp_path, skip_broken=True)
    assert data.counts() == (11, 6, 12)
    assert "left out: 1 broken problem;" in data.note
    assert [record.message for record in caplog.records if "problem 5 " in record.message]


def test_a_problem_that_is_no_object_is_refused(tmp_path):
    write_folder(tmp_path, {str(number): problem(number) for number in range(1, 31)} | {"5": "a text"})
    assert "problem 5 is no JSON object" in refusal(load, tmp_path)


def test_an_image_that_does_not_decode_is_refused_by_name_or_skipped(tmp_path, caplog):
    image = write_folder(tmp_path) / "test" / "19" / "image.png"
    image.write_bytes(image.read_bytes()[:40])
    task = ScienceQA(data_dir=tmp_path, max_length=48, max_new_tokens=4)
    asked = items(task.load(tmp_path.name))["19"]
    assert f"{image} does not decode (" in refusal(task.windows(ToyVLM()), *asked)
    data = load(tmp_path, skip_broken=True)
    assert data.counts() == (12, 6, 11)
    assert "left out: 1 broken problem;" in data.note
    assert [record.message for record in caplog.records if str(image) in record.message]


def test_many_broken_problems_are_counted_and_few_are_logged(tmp_path, caplog):
    problems = {str(number): problem(number, image="gone.png") for number in range(1, 100)}
    problems |= {str(number): problem(number, image=None) for number in (100, 101, 102)}
    ids = {"train": [*map(str, range(1, 100)), "100"], "val": ["101"], "test": ["102"]}
    data = load(write_folder(tmp_path, problems, ids), skip_broken=True)
    assert data.counts() == (1, 1, 1)
    assert "left out: 99 broken problems" in data.note
    assert len(caplog.records) == 20
    assert caplog.records[-1].message.endswith("(others are counted)")


def test_a_split_without_whole_problems_is_refused(tmp_path):
    problems = {str(number): problem(number, answer=9 if number > 18 else 0) for number in range(1, 31)}
    write_folder(tmp_path, problems)
    assert "too few questions to have one for test" in refusal(load, tmp_path, skip_broken=True)


FAULTS = {
    "no problems": ("problems.json", None, "has no problems.json: expected problems.json, pid_splits.json and <split>"),
    "no splits": ("pid_splits.json", None, "has no pid_splits.json: expected"),
    "problems cut off": ("problems.json", '{"1": {', "problems.json is no JSON ("),
    "splits cut off": ("pid_splits.json", '{"train": ["1"', "pid_splits.json is no JSON ("),
    "problems in another encoding": ("problems.json", b'{"1": "\xe9"}', "problems.json is no JSON ("),
    "a list of problems": ("problems.json", "[]", "problems.json is not a JSON object"),
    "no test split": ("pid_splits.json", '{"train": ["1"], "val": ["13"]}', "has no list 'test' of ids"),
    "a split that is a text": (
        "pid_splits.json",
        '{"train": "1", "val": [], "test": []}',
        "has no list 'train' of ids",
    ),
    "an id in two splits": (
        "pid_splits.json",
        '{"train": ["1"], "val": ["13"], "test": ["1"]}',
        "problem 1 is in train and in test: keep it once",
    ),
    "an id twice": ("pid_splits.json", '{"train": ["1", 1], "val": [], "test": []}', "problem 1 is listed twice"),
    "an id that is a path": (
        "pid_splits.json",
        '{"train": ["../x"], "val": [], "test": []}',
        "has the id '../x' in 'train', which names no folder",
    ),
    "an id that is a list": ("pid_splits.json", '{"train": [[]], "val": [], "test": []}', "has the id [] in 'train'"),
    "an id that is hidden": ("pid_splits.json", '{"train": [".."], "val": [], "test": []}', "has the id '..'"),
}


@pytest.mark.parametrize("skip_broken", [False, True])
@pytest.mark.parametrize(("file", "content", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_folder_is_refused(tmp_path, file, content, said, skip_broken):
    path = write_folder(tmp_path) / file
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refusal(load, tmp_path, skip_broken=skip_broken)
    assert said in line
    assert str(tmp_path) in line


def test_two_files_of_problems_are_refused(tmp_path):
    problems = write_folder(tmp_path) / "problems.json"
    problems.rename(tmp_path / "problems_a.json")
    (tmp_path / "problems_b.json").write_text("{}")
    assert "has problems_a.json and problems_b.json: name the one that is meant problems.json" in refusal(
        load, tmp_path
    )


def test_ids_may_be_numbers(tmp_path):
    ids = {split: [int(number) for number in some] for split, some in splits().items()}
    write_folder(tmp_path)
    (tmp_path / "pid_splits.json").write_text(json.dumps(ids))
    assert load(tmp_path).counts() == (12, 6, 12)
