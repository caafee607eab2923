"""MMBench: its table, rotations that are there or made, scores as by hand, and what is malformed."""

from __future__ import annotations

import pytest

from support.benchmark_files import encoded, row, save_mmbench
from zipeft.benchmarks.mmbench import ABILITIES, MMBench, named
from zipeft.benchmarks.mmbench_table import ROTATION
from zipeft.errors import UserError
from zipeft.objectives.options import Choice


def said(written: str, likelier: str) -> list[Choice]:
    """Choices with these letters, one a question."""
    return [Choice("ABCD".index(second), (), first) for first, second in zip(written, likelier, strict=True)]


def test_a_question_counts_if_it_is_right_in_every_rotation(tmp_path):
    rows = [
        row(1, answer="A"),
        row(2, answer="C", **{"l2-category": "logic_reasoning", "category": "physics"}),
        row(3, ("yes", "no"), "B", **{"l2-category": "logic_reasoning", "category": "physics"}),
    ]
    benchmark = MMBench.read(save_mmbench(tmp_path / "dev.tsv", rows))
    # Right are A C B, then C B A, then B A: an option moves up while the others move to the end.
    assert [posed.right for group in benchmark.groups for posed in group] == [0, 2, 1, 2, 1, 0, 1, 0]
    results = benchmark.results(said("ACBCBBBA", "ACBCCCAA"))
    written, likelier = results.scores["written"], results.scores["likelihood"]
    assert written["overall"] == pytest.approx({"questions": 3, "circular": 2 / 3, "vanilla": 1})
    assert written["LR"] == pytest.approx({"questions": 2, "circular": 1 / 2, "vanilla": 1})
    assert written["CP"] == written["object"] == {"questions": 1, "circular": 1, "vanilla": 1}
    assert written["physics"] == written["LR"]
    assert likelier["overall"] == pytest.approx({"questions": 3, "circular": 1 / 3, "vanilla": 2 / 3})
    assert results.totals == pytest.approx({"overall": 200 / 3, "LR": 50, "CP": 100})
    assert ["LR", "2", "50.0", "100.0", "0.0", "50.0"] in [list(cells) for cells in results.table]
    assert "physics" not in {cells[0] for cells in results.table}


def test_rotations_of_the_table_are_those_that_are_made(tmp_path):
    rows = [
        *(row(7, ("cat", "dog", "fox"), "B"), row(7 + ROTATION, ("dog", "fox", "cat"), "A", image="7")),
        row(7 + 2 * ROTATION, ("fox", "cat", "dog"), "C", image="7"),
    ]
    there = MMBench.read(save_mmbench(tmp_path / "all.tsv", rows))
    made = MMBench.read(save_mmbench(tmp_path / "one.tsv", rows[:1]))
    assert [posed.question.options for posed in there.groups[0]] == [posed.question.options for posed in made.groups[0]]
    assert [posed.right for posed in there.groups[0]] == [posed.right for posed in made.groups[0]] == [1, 0, 2]
    assert len({posed.question.picture.read().tobytes() for posed in there.groups[0]}) == 1
    assert there.checksum != made.checksum
    fewer = MMBench.read(save_mmbench(tmp_path / "two.tsv", rows[:2]))
    assert "1 question with fewer rotations" in fewer.results(said("BA", "BA")).notes[0]


def test_cells_are_read_as_a_spreadsheet_writes_them(tmp_path):
    hint = 'first\tline\n"quoted" second'
    (group,) = MMBench.read(save_mmbench(tmp_path / "dev.tsv", [row(1, ("a", "b"), hint=hint)])).groups
    assert group[0].question.context == hint
    assert group[0].question.options == ("a", "b")
    assert group[0].question.picture.read().getpixel((0, 0)) == (255, 0, 0)


def test_every_ability_has_its_published_column():
    (table,) = MMBench.published()
    assert table.columns == ("overall", *ABILITIES.values())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(("B", 1), ("B.", 1), ("(C)", 2), ("**B**", 1), ("the right one is B", 1), ("B: a dog", 1)),
        *(("", None), ("D", None), ("b", None), ("A or B", None), ("none of them", None)),
        ("The answer is **B**, and this is why I think that it is so", 1),
        *(("a dog", 1), ("a dog Z", None), ("Z, but the answer is B", 1)),
        ("It is a DOG", 1),
        ("a dog, or a cat", None),
        ("a dog" + " indeed" * 9, None),
        ("A dog runs over the field", None),
    ],
)
def test_an_option_is_named_by_its_letter_or_its_text(written, expected):
    assert named(written, ("cat", "dog", "a fox")) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"index": "x"}, "line 3 has the index 'x'"),
        ({"index": "1"}, "line 3 has the index 1, which a row before it has"),
        ({"index": "1000009"}, "question 1000009 is a rotation of question 9, which is not there"),
        ({"answer": ""}, "question 2 has no answer"),
        ({"answer": "D"}, "question 2 has the answer 'D', which is none of A, B and C"),
        ({"question": " "}, "question 2 asks nothing"),
        ({"B": ""}, "question 2 has the options A and C: give two or more"),
        ({"A": "", "B": "", "C": ""}, "question 2 has the options none"),
        ({"image": ""}, "question 2 has no image"),
        ({"image": "17"}, "question 2 has the image of question 17, which has none"),
        ({"image": "2"}, "question 2 has the image of question 2, which has none"),
        ({"split": "test"}, "has the splits dev and test"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, values, message):
    path = save_mmbench(tmp_path / "dev.tsv", [row(1), row(2) | values])
    with pytest.raises(UserError, match=message) as refused:
        MMBench.read(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [("?", "question 2 is not base64"), (encoded()[:40], "question 2 does not decode"), ("QUJD", "does not decode")],
)
def test_a_broken_image_is_named_when_it_is_shown(tmp_path, image, message):
    path = save_mmbench(tmp_path / "dev.tsv", [row(1), row(2, image=image)])
    *_, last = MMBench.read(path).questions
    with pytest.raises(UserError, match=message):
        last.picture.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column index"),
        (b"index\tquestion\n1\tx\n", "has no column A"),
        (b"\xff\xfe", "is not UTF-8"),
        (b'index\tquestion\tA\tB\tanswer\tl2-category\timage\n1\t"x', "is no table in TSV"),
        (b"index\tquestion\tA\tB\tanswer\tl2-category\timage\n1\tx\n", "line 2 has not as many columns as the header"),
        (b"index\tquestion\tA\tB\tanswer\tl2-category\timage\n", "has no rows"),
    ],
)
def test_another_file_is_refused(tmp_path, content, message):
    (tmp_path / "dev.tsv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        MMBench.read(tmp_path)


def test_a_folder_names_its_table_if_it_has_one(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.tsv"):
        MMBench.read(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        MMBench.read(tmp_path / "none.tsv")
    save_mmbench(tmp_path / "a.tsv", [row(1)])
    assert len(MMBench.read(tmp_path).questions) == 3
    save_mmbench(tmp_path / "b.tsv", [row(1)])
    with pytest.raises(UserError, match=r"holds a\.tsv and b\.tsv: name one"):
        MMBench.read(tmp_path)
