"""SQuAD's files: what is read, and what is refused with the place."""

from __future__ import annotations

import json

import pyarrow
import pytest
from pyarrow import parquet

from support.pictures import SPLITS, refusal
from support.squad import (
    everything,
    load,
    question,
    rows_of,
    squad_json,
    write,
)
from support.toys import split_of
from zipeft.tasks.squad.files import Question
from zipeft.tasks.squad.task import SQuAD


@pytest.mark.parametrize("unanswerable", [False, True])
def test_every_layout_gives_the_same_questions(tmp_path, unanswerable):
    content = squad_json(unanswerable=unanswerable)
    rows = rows_of(content)
    lines = "\n".join(json.dumps(row) for row in rows)
    layouts = {
        "squad.json": content,
        "rows.json": {"version": "2.0", "data": rows},
        "list.json": rows,
        "lines.jsonl": lines + "\n\n",
        "lines.json": lines,
        "marked.json": "\ufeff" + json.dumps(content),
    }
    loaded = {name: load(write(tmp_path / name, layout)) for name, layout in layouts.items()}
    first = loaded["squad.json"]
    asked = [each for split in everything(first).values() for each in split]
    assert sorted(name for name, _, _ in asked) == sorted(row["id"] for row in rows)
    for name, example, answers in asked:
        (row,) = (row for row in rows if row["id"] == name)
        assert example == (row["question"], row["context"])
        assert answers == (tuple(row["answers"]["text"]), tuple(row["answers"]["answer_start"]))
    for data in loaded.values():
        assert everything(data) == everything(first)
        assert data.checksum == first.checksum
        assert ("without an answer" in data.note) == unanswerable
    assert {data.name for data in loaded.values()} == {"squad", "rows", "list", "lines", "marked"}
    assert first.source == "file squad.json"


def test_parquet_is_read(tmp_path):
    content = squad_json()
    for part, rows in enumerate((rows_of(content)[:20], rows_of(content)[20:])):
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"train-0000{part}-of-00002.parquet")
    assert everything(load(tmp_path)) == everything(load(write(tmp_path / "all.json", content)))
    write(tmp_path / "bad.parquet", "PAR1 and what not")
    assert "bad.parquet cannot be read as parquet" in refusal(load, tmp_path / "bad.parquet")


def test_a_published_set_is_known_by_its_file_names(tmp_path):
    for version, start in (("v1.1", 0), ("v2.0", 1000)):
        write(tmp_path / f"train-{version}.json", squad_json(articles=20, start=start, unanswerable=start > 0))
        write(tmp_path / f"dev-{version}.json", squad_json(articles=2, start=start + 500, unanswerable=start > 0))
    task = SQuAD(data_dir=tmp_path)
    assert task.datasets() == ("squad-v1.1", "squad-v2.0")
    assert SQuAD(data_dir=tmp_path, sets=("squad-v2.0",)).datasets() == ("squad-v2.0",)
    for name in task.datasets():
        data = task.load(name)
        assert [len(split_of(data, split)) for split in SPLITS] == [108, 12, 12]
        assert "validation cut from the given training questions, 10% by article with seed 0 (2 of 20)" in data.note
        assert (data.name, not data.shifted) == (name, True)
        missing = any(not answers.texts for answers in data.train.targets)
        assert missing == (name == "squad-v2.0") == ("36 train, 4 validation, 4 test" in data.note)
    (tmp_path / "dev-v1.1.json").write_text((tmp_path / "dev-v2.0.json").read_text("utf-8"), "utf-8")
    assert "dev-v1.1.json: question 'q1501' has no answer, but in version 1.1" in refusal(task.load, "squad-v1.1")
    (tmp_path / "train-v2.0.json").unlink()
    assert "has dev-v2.0.json but no train-v2.0.json" in refusal(task.datasets)


@pytest.mark.parametrize(
    ("names", "sizes", "said"),
    [
        (("train.json", "validation.json", "test.json"), [36, 18, 18], "questions: 36 train"),
        (("train.json", "dev.json", "test.json"), [36, 18, 18], "questions: 36 train"),
        (("train.json", "dev.json"), [30, 6, 18], "10% by article with seed 0 (1 of 6)"),
        (("train.json", "test.json"), [30, 6, 18], "10% by article with seed 0 (1 of 6)"),
        (("train.json",), [24, 6, 6], "36 questions in 6 articles, split 60/20/20 by article with seed 0 (4 train, 1"),
    ],
)
def test_files_named_after_splits_are_read(tmp_path, names, sizes, said):
    folder = tmp_path / "quiz"
    for start, name in enumerate(names):
        write(folder / name, squad_json(articles=3 if start else 6, start=1000 * start))
    data = load(folder)
    assert (data.name, data.source) == ("quiz", "folder quiz")
    assert [len(split_of(data, split)) for split in SPLITS] == sizes
    assert said in data.note
    if len(names) == 3:
        assert [int(min(split_of(data, split).names)[1:]) // 1000 for split in SPLITS] == [0, 1, 2]


def changed(change):
    """Return a file's content after ``change(first article, first paragraph, first question)``."""
    content = squad_json()
    article = content["data"][0]
    change(article, article["paragraphs"][0], article["paragraphs"][0]["qas"][0])
    return content


def without(*keys):
    def change(article, paragraph, row):
        for part in (article, paragraph, row):
            for key in keys:
                part.pop(key, None)

    return changed(change)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [', "is no JSON (line 1"),
        ("", "is no JSON (line 1"),
        ("[" * 100_000, "is no JSON (it is nested too deeply)"),
        ('{"id": "a"}\n' + "[" * 100_000, "is no JSON in line 2 (it is nested too deeply)"),
        (f'{{"version": {"1" * 5000}}}', "is no JSON (Exceeds the limit"),
        ('{"id": "a", "context": "b"}\n{"id": "b', "is no JSON in line 2"),
        ({"data": []}, "holds no questions"),
        ({"questions": []}, "is not of a known layout"),
        ("[1]", "row 1 is no JSON object"),
        (without("qas"), "article 1, paragraph 1 has no 'qas'"),
        (without("context"), "article 1, paragraph 1 has no 'context'"),
        (without("id"), "article 1, paragraph 1, question 1 has no 'id'"),
        (without("question"), "question 'q1' has no 'question'"),
        (without("answers"), "question 'q1' has no list 'answers'"),
        (changed(lambda a, p, row: row.update(id=5.0)), "has a 'id' that is not text or a whole number"),
        (changed(lambda a, p, row: row.update(id=True)), "has a 'id' that is not text or a whole number"),
        (changed(lambda a, p, row: row.update(id="q2")), "1 question has the id of an earlier one ('q2'): give each"),
        (changed(lambda a, p, row: row.update(question="\ud800")), "question 'q1' has half of a surrogate pair"),
        (changed(lambda a, p, row: row.update(is_impossible=True)), "'q1' is is_impossible, but has answers"),
        (
            changed(lambda a, p, row: row.update(is_impossible=False, answers=None)),
            "'q1' is not is_impossible, but has no",
        ),
        (changed(lambda a, p, row: p.update(context=" ")), "question 'q1' has a blank context"),
        (changed(lambda a, p, row: row["answers"][0].pop("text")), "question 'q1': an answer has no 'text'"),
        (changed(lambda a, p, row: row["answers"][1].update(text=" ")), "question 'q1' has a blank answer"),
        (
            changed(lambda a, p, row: row["answers"][0].update(answer_start=3)),
            "character 0 of its context, not at answer_",
        ),
        (changed(lambda a, p, row: row["answers"][0].update(answer_start=-len(p["context"]))), "not at answer_start -"),
        (changed(lambda a, p, row: row["answers"][0].update(answer_start=1.0)), "'answer_start' that is not a whole"),
        (changed(lambda a, p, row: row.update(answers={"text": ["a"], "answer_start": []})), "has 1 answers but 0"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, said):
    path = write(tmp_path / "bad.json", content if isinstance(content, str) else json.dumps(content))
    message = refusal(load, path)
    assert said in message
    assert message.startswith(f"{path}")


def test_files_that_cannot_be_taken_are_refused(tmp_path):
    assert "holds no questions: expected train-v1.1.json" in refusal(SQuAD(data_dir=tmp_path).datasets)
    (tmp_path / "bytes.json").write_bytes(b'{"data": "\xff"}')
    assert "bytes.json is not UTF-8 at byte 10" in refusal(load, tmp_path / "bytes.json")
    assert "notes.txt is of no known kind" in refusal(load, write(tmp_path / "notes.txt", "hello"))
    write(tmp_path / "dev.json", squad_json())
    assert "has dev.json but no train file" in refusal(SQuAD(data_dir=tmp_path).datasets)
    write(tmp_path / "train.json", squad_json())
    assert "question 'q1' is in train.json too" in refusal(load, tmp_path)
    one = write(tmp_path / "one.json", squad_json(articles=1, contexts=1))
    assert "one has too few questions to split them by context" in refusal(load, one)


def test_a_misplaced_answer_is_moved_where_that_is_allowed(tmp_path):
    context = "a cat, a dog, a cat and a bird"
    content = squad_json()
    content["data"][0]["paragraphs"].append({"context": context, "qas": [question("q", context, ("cat",))]})
    (row,) = content["data"][0]["paragraphs"][-1]["qas"]
    for start, place in ((0, 2), (2, 2), (5, 2), (12, 16), (15, 16), (17, 16), (400, 16), (-3, 2)):
        row["answers"][0]["answer_start"] = start
        path = write(tmp_path / f"{start}.json", content)
        data = load(path, move_answers=True)
        assert (Question("q?", context), (("cat",), (place,))) in [
            (example, answers) for split in everything(data).values() for _, example, answers in split
        ]
        assert (f"1 in {start}.json" in data.note) == (start != place)
        if start != place:
            assert f"at character {place} of its context, not at answer_start {start}: " in refusal(load, path)


def test_questions_whose_context_lacks_the_answer_are_counted_and_not_learnt(tmp_path):
    content = changed(lambda article, paragraph, row: row["answers"][1].update(text="zzz"))
    for path in (write(tmp_path / "one.json", content), write(tmp_path / "sets" / "train.json", content)):
        write(tmp_path / "sets" / "dev.json", squad_json(start=1000))
        data = load(path if path.name == "one.json" else path.parent)
        names = {name for rows in everything(data).values() for name, _, _ in rows}
        assert "q2" in names
        assert "q1" not in names
        assert f"questions left out of which the context does not hold an answer: 1 in {path.name}" in data.note
    write(tmp_path / "sets" / "dev.json", content)
    write(tmp_path / "sets" / "train.json", squad_json(start=1000))
    said = "dev.json: question 'q1' has an answer that is not in its context"
    assert said in refusal(load, tmp_path / "sets")
    only = {"data": [{"paragraphs": [{"context": "a cat", "qas": [question("q", "a cat", ("dog",))]}]}]}
    said = "holds no questions but 1 whose answer is not in their context"
    assert said in refusal(load, write(tmp_path / "only.json", only))


def test_an_answer_in_another_form_of_unicode_is_in_its_context(tmp_path):
    composed, decomposed = "un caf\u00e9 noir", "un cafe\u0301 noir"
    for context, answer, right in (
        (composed, decomposed[3:8], composed[3:7]),
        (decomposed, composed[3:7], decomposed[3:8]),
    ):
        content = squad_json()
        row = question("q", context, ()) | {"answers": [{"text": answer, "answer_start": 3}]}
        content["data"][0]["paragraphs"].append({"context": context, "qas": [row]})
        data = load(write(tmp_path / "forms.json", content))
        found = [answers for split in everything(data).values() for name, _, answers in split if name == "q"]
        assert found == [((right,), (3,))]
        assert "moved" not in data.note
        row["answers"][0]["answer_start"] = 0
        data = load(write(tmp_path / "forms.json", content), move_answers=True)
        found = [answers for split in everything(data).values() for name, _, answers in split if name == "q"]
        assert found == [((right,), (3,))]


def test_ids_may_be_numbers_and_answers_null_where_there_is_none(tmp_path):
    content = squad_json(unanswerable=True)
    rows = [row for article in content["data"] for part in article["paragraphs"] for row in part["qas"]]
    for number, row in enumerate(rows):
        row["id"] = number
        row["answers"] = row["answers"] or None
    data = load(write(tmp_path / "numbers.json", content))
    found = {name: answers for split in everything(data).values() for name, _, answers in split}
    assert found.keys() == {str(number) for number in range(len(rows))}
    assert all(bool(found[str(row["id"])].texts) == bool(row["answers"]) for row in rows)


def test_repeated_ids_are_counted_and_can_be_dropped(tmp_path):
    content = squad_json()
    content["data"].append(content["data"][0])
    path = write(tmp_path / "twice.json", content)
    message = refusal(load, path)
    assert (
        "twice.json: 6 questions have the id of an earlier one ('q1', 'q2', 'q3', ...): give each its own, or"
        in message
    )
    assert "squad.drop_repeated=true" in message
    data = load(path, drop_repeated=True)
    assert "questions dropped that have the id of an earlier one: 6 in twice.json" in data.note
    assert data.checksum == load(write(tmp_path / "once.json", squad_json())).checksum
    write(tmp_path / "sets" / "train.json", squad_json())
    write(tmp_path / "sets" / "dev.json", squad_json())
    assert "dev.json: question 'q1' is in train.json too, and 35 more are in two files" in refusal(
        load, tmp_path / "sets"
    )
