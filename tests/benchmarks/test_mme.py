"""MME: folders in both layouts, scores as by hand, and what is malformed."""

from __future__ import annotations

import pytest

from support.benchmark_files import YES_NO, save_mme
from zipeft.benchmarks import mme
from zipeft.benchmarks.mme import COGNITION, MME, PERCEPTION, SUBTASKS, yes_or_no
from zipeft.errors import UserError
from zipeft.objectives.options import Choice


def said(*answers: str) -> list[Choice]:
    """Choices with these written answers, of which "no" is the likelier in all."""
    return [Choice(1, (-2.0, -1.0), answer) for answer in answers]


def test_scores_are_those_computed_by_hand(tmp_path):
    benchmark = MME.read(save_mme(tmp_path, {"count": 3, "OCR": 2}, apart=["OCR"]))
    answers = ["Yes", "No.", "yes it is", "Yes", "maybe", "no", *("No", "Yes"), *("yes", "No")]
    results = benchmark.results(said(*answers))
    # count: 4 of 6 right, and of its three images the first in both; OCR: 2 of 4, and the second of two.
    count, ocr = (results.scores["written"][name] for name in ("count", "OCR"))
    assert count == pytest.approx({"images": 3, "accuracy": 4 / 6, "accuracy_plus": 1 / 3, "other": 1, "score": 100})
    assert ocr == pytest.approx({"images": 2, "accuracy": 0.5, "accuracy_plus": 0.5, "other": 0, "score": 100})
    # Always no: every image has one yes and one no.
    assert results.scores["likelihood"]["count"]["score"] == 50
    assert ["count", "3", "66.7", "33.3", "100.0", "1", "50.0", "0.0", "50.0"] in [list(row) for row in results.table]


def test_all_subtasks_right_are_the_full_score(tmp_path):
    benchmark = MME.read(save_mme(tmp_path, dict.fromkeys(SUBTASKS, 1), apart=["artwork", "scene"]))
    results = benchmark.results(said(*["Yes", "No"] * len(SUBTASKS)))
    assert (results.totals["perception"], results.totals["cognition"]) == (2000, 800)
    assert not results.scores["missing"]


def test_without_a_subtask_there_is_no_total(tmp_path):
    present = dict.fromkeys((*PERCEPTION, "code_reasoning"), 1)
    results = MME.read(save_mme(tmp_path, present)).results(said(*["Yes", "No"] * len(present)))
    assert results.totals["perception"] == 2000
    assert results.totals["cognition"] is None
    missing = [name for name in COGNITION if name != "code_reasoning"]
    assert results.scores["missing"] == missing
    missing_note, partial_note = results.notes
    assert all(name in missing_note for name in missing)
    assert "these are 11 images, and MME's release has 1,187" in partial_note


def test_a_folder_of_as_many_images_as_the_release_has_no_note(tmp_path, monkeypatch):
    benchmark = MME.read(save_mme(tmp_path, dict.fromkeys(SUBTASKS, 1)))
    monkeypatch.setattr(mme, "IMAGES", len(SUBTASKS))
    assert benchmark.results(said(*["Yes", "No"] * len(SUBTASKS))).notes == []
    monkeypatch.setattr(mme, "IMAGES", len(SUBTASKS) + 1)
    assert len(benchmark.results(said(*["Yes", "No"] * len(SUBTASKS))).notes) == 1


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *(("Yes", "yes"), ("no", "no"), ("YES, it is", "yes"), ("Not at all", "no"), ("know", "no"), ("none", "no")),
        *(("", "other"), ("I say yes", "other"), ("it is no", "other"), ("unsure", "other"), ("eyes", "yes")),
    ],
)
def test_an_answer_is_read_by_its_first_four_characters(written, expected):
    assert yes_or_no(written) == expected


def test_questions_are_put_as_they_stand_with_the_image_beside_their_text(tmp_path):
    save_mme(tmp_path, {"count": 1, "OCR": 1}, apart=["OCR"])
    first, second, *_ = MME.read(tmp_path).questions
    assert first.question == YES_NO[0].partition("\t")[0]
    assert first.options == ("Yes", "No")
    assert first.picture == second.picture
    assert first.picture.read().size == (8, 6)


def test_the_checksum_is_of_images_and_texts(tmp_path):
    before = MME.read(save_mme(tmp_path, {"count": 2})).checksum
    assert MME.read(tmp_path).checksum == before
    (tmp_path / "count/0000.txt").write_text("\n".join(reversed(YES_NO)), "utf-8")
    after = MME.read(tmp_path).checksum
    assert after != before
    (tmp_path / "count/0000.png").write_bytes((tmp_path / "count/0001.png").read_bytes())
    assert MME.read(tmp_path).checksum not in (before, after)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("count/0000.txt", YES_NO[0], "0000.txt has 1 line: give two questions"),
        ("count/0000.txt", "\n".join([*YES_NO, YES_NO[0]]), "0000.txt has 3 lines"),
        ("count/0000.txt", f"{YES_NO[0]}\nIs it blue? No", "0000.txt, line 2 is not of the form"),
        ("count/0000.txt", f"Is it red?\tmaybe\n{YES_NO[1]}", "0000.txt, line 1 is not of the form"),
        ("count/0000.txt", f"\tYes\n{YES_NO[1]}", "0000.txt, line 1 is not of the form"),
        ("count/0000.txt", b"\xff\xfe\n\xff", "0000.txt is not UTF-8"),
        ("count/0000.txt", None, "0000.png has no text of questions: add 0000.txt"),
        ("count/0000.png", None, "0000.txt asks about an image that is not there"),
        ("count/0000.jpg", b"", "have one text of questions: keep one of them"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, name, content, message):
    save_mme(tmp_path, {"count": 2, "OCR": 1})
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as refused:
        MME.read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_broken_image_is_named_when_it_is_shown(tmp_path):
    save_mme(tmp_path, {"count": 1})
    (tmp_path / "count/0000.png").write_bytes(b"no image")
    first, _ = MME.read(tmp_path).questions
    with pytest.raises(UserError, match=r"count/0000.png does not decode \(it is no image .*\): get the benchmark's"):
        first.picture.read()


@pytest.mark.parametrize(("folder", "message"), [("none", "is no folder"), ("", "holds none of MME's subtasks")])
def test_another_folder_is_refused(tmp_path, folder, message):
    with pytest.raises(UserError, match=message):
        MME.read(tmp_path / folder)


def test_a_subtask_without_images_is_refused(tmp_path):
    save_mme(tmp_path, {"count": 1})
    (tmp_path / "OCR").mkdir()
    with pytest.raises(UserError, match="OCR has no images"):
        MME.read(tmp_path)


def test_published_rows_have_the_columns_that_are_measured(tmp_path):
    totals, subtasks = MME.published()
    assert subtasks.columns == SUBTASKS
    assert set(totals.columns) <= MME.read(save_mme(tmp_path, {"count": 1})).results(said("Yes", "No")).totals.keys()
    (scores,) = subtasks.rows.values()  # the sums are those of the other table
    sums = [sum(map(int, scores[at:end])) for at, end in ((0, 10), (10, 14))]
    assert [f"{each}" for each in sums] == list(totals.rows["LLaMA-Adapter"])
