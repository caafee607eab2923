"""The files that are compared: answers, questions, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_server import serving, shown
from support.contests import answer_files, judge, longer, numbers, one_line, write_lines
from zipeft.judge.contest import read_contest


def test_formats_of_fastchat_and_of_zipeft_mean_the_same():
    write_lines("zipeft.jsonl", [{"id": "1", "instruction": "Add.", "input": "1, 2", "answer": "3", "model": "m"}])
    write_lines("old.jsonl", [{"question_id": 1, "text": "3", "answer_id": "x", "model_id": "m"}])
    write_lines("new.jsonl", [{"question_id": 1, "choices": [{"index": 0, "turns": ["3"]}], "model_id": "m"}])
    write_lines("vicuna.jsonl", [{"question_id": 1, "text": "Add.\n\n1, 2", "category": "math"}])
    write_lines("bench.jsonl", [{"question_id": 1, "turns": ["Add.\n\n1, 2"], "category": "math"}])
    found = {
        str(read_contest(Path(f"{a}.jsonl"), Path(f"{b}.jsonl"), Path(f"{questions}.jsonl")))
        for a in ("zipeft", "old", "new")
        for b in ("zipeft", "old", "new")
        for questions in ("vicuna", "bench")
    }
    assert len(found) == 1
    (pair,) = read_contest(Path("old.jsonl"), Path("zipeft.jsonl"), Path("vicuna.jsonl")).pairs
    assert (pair.question, pair.answers, pair.category) == (("Add.\n\n1, 2",), (("3",), ("3",)), "math")


def test_conversations_are_shown_turn_by_turn():
    write_lines("questions.jsonl", [{"question_id": 1, "turns": ["One?", "Two?"]}])
    for name in "ab":
        write_lines(f"{name}.jsonl", [{"question_id": 1, "choices": [{"turns": [f"{name}1", f"{name}2"]}]}])
    with serving(longer) as server:
        judge(server, "--questions", "questions.jsonl", "--workers", "1")
    question, first, second = shown(server.prompts[0])
    assert question == "(turn 1)\nOne?\n\n(turn 2)\nTwo?"
    assert (first, second) == ("(turn 1)\na1\n\n(turn 2)\na2", "(turn 1)\nb1\n\n(turn 2)\nb2")


A = {"id": 1, "instruction": "Q", "answer": "x"}


@pytest.mark.parametrize(
    ("a", "b", "questions", "told"),
    [
        ([A, A | {"id": 2}, A | {"id": 3}], [A], None, "b.jsonl lacks question '2' (2 questions are not in all files)"),
        ([A], [A, A | {"id": 7}], None, "a.jsonl lacks question '7'"),
        ([A], [A], [{"question_id": 2, "text": "Q"}, {"question_id": 1, "text": "Q"}], "a.jsonl lacks question '2'"),
        (
            [A, A | {"id": 2}],
            [A, A | {"id": 2}],
            [{"question_id": 1, "text": "Q"}],
            "questions.jsonl lacks question '2'",
        ),
        ([A, A | {"id": "1"}], [A], None, "a.jsonl, line 2 has the id '1' again"),
        ([A, A, A, A], [A], None, "line 1 (as 2 more have one that is there): keep one of them"),
        ([A], [A | {"instruction": "R"}], None, "b.jsonl, line 1 answers another question than a.jsonl, line 1"),
        ([A], [A], [{"question_id": 1, "text": "R"}], "a.jsonl, line 1 answers another question"),
        ([{"id": 1, "answer": "x"}], [{"id": 1, "answer": "x"}], None, "does not say what was asked"),
        ([A], [A], [{"question_id": 1, "turns": ["Q", "R"]}], "another question"),
        ([{"id": 1, "answer": "x"}], [A], [{"question_id": 1, "turns": ["Q", "R"]}], "a.jsonl, line 1 has 1 turn"),
        ([A | {"answer": None}], [A], None, "a.jsonl, line 1 has None for a text"),
        ([A | {"answer": "\ud800"}], [A], None, "a.jsonl, line 1 has half of a surrogate pair"),
        ([A | {"model": 3}], [A], None, "a.jsonl, line 1 has 3 for a text"),
        ([{"instruction": "Q", "answer": "x"}], [A], None, "a.jsonl, line 1 has no id"),
        ([A | {"id": 1.5}], [A], None, "a.jsonl, line 1 has no id"),
        ([A | {"id": True}], [A], None, "a.jsonl, line 1 has no id"),
        ([{"id": 1, "instruction": "Q"}], [A], None, "a.jsonl, line 1 has no answer"),
        ([{"id": 1, "choices": []}], [A], None, "a.jsonl, line 1 has no choice"),
        ([{"id": 1, "choices": [{"turns": "x"}]}], [A], None, "a.jsonl, line 1 has no turns"),
        ([{"id": 1, "choices": [{"turns": [1]}]}], [A], None, "a.jsonl, line 1 has 1 for a text"),
        ([[A]], [A], None, "a.jsonl, line 1 is not a JSON object"),
        ([A], [A], [{"question_id": 1}], "questions.jsonl, line 1 has no question"),
        ([A], [], None, "b.jsonl is empty"),
    ],
)
def test_files_that_do_not_go_together_are_one_line(a, b, questions, told, capsys):
    write_lines("a.jsonl", a)
    write_lines("b.jsonl", b)
    options = ["--questions", write_lines("questions.jsonl", questions)] if questions else []
    assert judge("http://127.0.0.1:9/v1", *options) == 2
    assert told in one_line(capsys)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[" * 100_000, b'{"id": NaN'])
def test_files_that_are_no_json_lines(content, capsys):
    answer_files([(5, 3)])
    Path("b.jsonl").write_bytes(b"\n" + content)
    assert judge("http://127.0.0.1:9/v1") == 2
    assert "b.jsonl, line 2 is not valid JSON" in one_line(capsys)
    assert judge("http://127.0.0.1:9/v1", b="no.jsonl") == 2
    assert "no.jsonl cannot be read" in one_line(capsys)


def test_missing_answers_can_be_allowed_and_are_counted(capsys):
    write_lines("a.jsonl", [A | {"id": id, "answer": "xx"} for id in (1, 2, 3)])
    write_lines("b.jsonl", [A | {"id": id, "answer": "x"} for id in (2, 3, 4)])
    with serving(longer) as server:
        assert judge(server, "--allow-missing") == 0
    assert (numbers()["questions"], numbers()["wins"], numbers()["left_out"]) == (2, 2, 2)
    assert "2, which are not in all files" in capsys.readouterr().out
    write_lines("b.jsonl", [A | {"id": 9}])
    assert judge("http://127.0.0.1:9/v1", "--allow-missing") == 2
    assert "no question in common" in one_line(capsys)
