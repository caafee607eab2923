"""What was judged is kept: a cut-off comparison goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from support.chat_server import Raw, completion, serving
from support.contests import answer_files, judge, kept, longer, numbers, one_line, write_lines
from zipeft.json_lines import JsonLines
from zipeft.judge.journal import Journal


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def holding_after(number):
    """Return a script that answers so many requests and holds the others, and the event that lets them go."""
    free, lock, answered = threading.Event(), threading.Lock(), []

    def script(prompt, times):
        with lock:
            answered.append(prompt)
            hold = len(answered) > number
        if hold:
            free.wait(60)
        return longer(prompt)

    return script, free


def lines_of(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_it_goes_on_and_asks_nothing_twice(how, start):
    answer_files([(n + 1, 4) for n in range(9)])
    script, free = holding_after(7)
    out = Path("judgements.jsonl")
    with serving(script) as server:
        process = start(server, "--workers", "3")
        until(lambda: lines_of(out) == 7 and server.at_once == 3)
        process.send_signal(how)
        _, err = process.communicate(timeout=20)
        assert process.returncode == (130 if how == signal.SIGINT else -how)
        assert err == ("zipeft: interrupted\n" if how == signal.SIGINT else "")
        answered, before = {line["key"] for line in kept()}, len(server.bodies)
        free.set()
        assert judge(server) == 0
        after = server.bodies[before:]
    assert len(after) == 18 - 7
    assert len(kept()) == len({line["key"] for line in kept()}) == 18
    assert answered < {line["key"] for line in kept()}
    assert not [body for body in after if body in server.bodies[:7]]
    assert (numbers()["wins"], numbers()["ties"], numbers()["losses"]) == (5, 1, 3)


def test_last_line_cut_anywhere_is_repaired_and_one_request_asked_again():
    answer_files([(5, 3), (1, 9)], model="modèle ☃")
    with serving(longer) as server:
        judge(server)
        whole, result = Path("judgements.jsonl").read_bytes(), numbers()
        start_of_last = whole[:-1].rindex(b"\n") + 1
        middle = whole.index("☃".encode(), start_of_last) + 1  # in the middle of a character
        cuts = [start_of_last, start_of_last + 1, start_of_last + 5, start_of_last + 40, middle, len(whole) - 2]
        for cut in cuts:
            Path("judgements.jsonl").write_bytes(whole[:cut])
            before = len(server.bodies)
            assert judge(server) == 0
            assert len(server.bodies) == before + 1
            assert len(kept()) == 4
            assert numbers() == result
        Path("judgements.jsonl").write_bytes(whole[:-1])  # whole but for the line break
        before = len(server.bodies)
        judge(server)
        assert len(server.bodies) == before
        assert Path("judgements.jsonl").read_bytes() == whole


@pytest.mark.parametrize(
    "content",
    [
        '{"id": 1, "answer": "x"}\n',
        '{"key": 1, "reply": "8 9"}\n',
        "notes",
        '{"id": 1',
        "[]\n",
        '{"key": "x\n',
        "\xff\n",
    ],
)
def test_file_that_holds_anything_else_is_refused_and_left_as_it_is(content, capsys):
    answer_files([(5, 3)])
    Path("judgements.jsonl").write_text(content, encoding="latin-1")
    with serving(longer) as server:
        assert judge(server) == 2
    assert server.bodies == []
    assert "judgements.jsonl, line 1 is no judge's reply" in one_line(capsys)
    assert Path("judgements.jsonl").read_text(encoding="latin-1") == content


def test_file_that_cannot_be_written_is_one_line(capsys):
    answer_files([(5, 3)])
    for out in ("a.jsonl/x/out.jsonl", "."):
        assert judge("http://127.0.0.1:9/v1", "--out", out) == 2
        assert "cannot write" in one_line(capsys)


def test_full_disk_is_one_line_and_the_rest_is_repaired(monkeypatch, capsys):
    answer_files([(5, 3), (1, 9)])
    write, written = JsonLines._write, []

    def fails(self, line):
        written.extend(line.splitlines())
        if len(written) == 3:
            os.write(self._file.fileno(), line[:30])
            raise OSError(28, "No space left on device")
        write(self, line)

    with serving(longer) as server:
        monkeypatch.setattr(JsonLines, "_write", fails)
        assert judge(server, "--workers", "1") == 2
        assert "No space left on device" in one_line(capsys)
        monkeypatch.setattr(JsonLines, "_write", write)
        assert judge(server) == 0
    assert len(kept()) == 4


def test_what_decides_a_reply_makes_another_request_and_the_file_holds_all():
    answer_files([(5, 3)])
    with serving(longer) as server:
        for options in ([], ["--protocol", "verdict"], ["--temperature", "1"], ["--max-tokens", "9"]):
            judge(server, *options)
        judge(server, model="another")
        write_lines("a.jsonl", [{"id": 0, "instruction": "Question 0?", "answer": "another"}])
        judge(server)
        write_lines("a.jsonl", [{"id": 0, "instruction": "Question 0?", "input": "more", "answer": "aaaaa"}])
        judge(server, b="a.jsonl")
        assert len(server.bodies) == len(kept()) == 2 * 6 + 1
        answer_files([(5, 3)])
        judge(server)
        assert len(server.bodies) == 13
    assert (numbers()["wins"], numbers()["replies"]) == (1, 2)


def test_two_processes_do_not_share_a_file(capsys):
    answer_files([(5, 3)])
    with serving(longer) as server, Journal(Path("judgements.jsonl")):
        assert judge(server) == 2
        assert "in use" in one_line(capsys)
        Path("link.jsonl").symlink_to("judgements.jsonl")
        assert judge(server, "--out", "link.jsonl") == 2
        assert "in use" in one_line(capsys)
    assert server.bodies == []


@pytest.mark.parametrize("name", ["a.jsonl", "./b.jsonl", "judgements.jsonl", "link.jsonl"])
def test_numbers_are_not_written_over_what_is_kept(name, capsys):
    answer_files([(5, 3)])
    Path("link.jsonl").symlink_to("judgements.jsonl")
    with serving(longer) as server:
        assert judge(server) == 0
        before = [Path(file).read_bytes() for file in ("a.jsonl", "b.jsonl", "judgements.jsonl")]
        capsys.readouterr()
        assert judge(server, "--json", name) == 2
    assert "give the numbers one of their own" in one_line(capsys)
    assert before == [Path(file).read_bytes() for file in ("a.jsonl", "b.jsonl", "judgements.jsonl")]


def test_reply_that_is_no_text_to_write_is_kept():
    answer_files([(5, 3)])
    body = json.dumps(completion("9 2\n\N{SNOWMAN}?", model="judge?")).replace("?", r"\ud800").encode()
    with serving(lambda prompt, times: Raw(200, body)) as server:
        assert judge(server) == 0
    assert all("\N{SNOWMAN}" in line["reply"] for line in kept())
    assert judge(server) == 0


def test_edited_file_gives_no_traceback(capsys):
    answer_files([(5, 3)])
    with serving(longer) as server:
        judge(server)
    changes = {"prompt_tokens": "many", "completion_tokens": [1], "answered_as": 3, "endpoint": {"a": 1}, "winner": 7}
    write_lines("judgements.jsonl", [line | changes for line in kept()])
    assert judge("http://127.0.0.1:9/v1") == 0
    assert (numbers()["wins"], numbers()["replies_without_usage"]) == (1, 2)
    write_lines("judgements.jsonl", [{name: line[name] for name in ("key", "reply")} for line in kept()])
    assert judge("http://127.0.0.1:9/v1") == 0


def test_names_that_are_no_text_are_shown_somehow(tmp_path, capsys):
    answer_files([(5, 3)], model="")
    name = os.fsdecode(b"\xff.jsonl")
    try:
        Path(name).write_bytes(Path("a.jsonl").read_bytes())
    except OSError:
        pytest.skip("the file system has no such names")
    with serving(longer) as server:
        assert judge(server, a=name) == 0
        assert judge(server, model="\udcff") == 2
