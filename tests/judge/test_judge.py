"""zipeft judge: files, prompts, verdicts, patience with servers, what is kept, and the numbers that come out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from support.chat_server import DISCONNECT, Raw, completion, serving, shown
from zipeft.commands import main
from zipeft.json_lines import JsonLines
from zipeft.judge import client as judge_client
from zipeft.judge.contest import read_contest
from zipeft.judge.journal import Journal
from zipeft.judge.statistics import change, outcome
from zipeft.judge.verdicts import FIRST, SECOND, TIE, Verdict

HTML = Raw(200, b"<html><body>Bad gateway</body></html>", Content_Type="text/html")


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch, tmp_path):
    """No proxy and no key of the user's, pauses that are short, and a folder to work in."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("OPENAI_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(judge_client, "BACKOFF", 0.001)
    monkeypatch.chdir(tmp_path)


def write_lines(name, records):
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return name


def answer_files(lengths, **fields):
    """Write a.jsonl and b.jsonl; each question has a pair of lengths of its answers, and ``longer`` judges by those."""
    for name, side in (("a", 0), ("b", 1)):
        records = [
            {"id": number, "instruction": f"Question {number}?", "answer": name * pair[side], "model": f"model-{name}"}
            for number, pair in enumerate(lengths)
        ]
        write_lines(f"{name}.jsonl", [record | fields for record in records])


def longer(prompt, times=1):
    """Prefer the longer answer, fairly: its length is its score."""
    _, *answers = shown(prompt)
    scores = [len(answer) for answer in answers]
    if "<assistant_A>" in prompt:
        return f"One is longer.\n[[{'C' if scores[0] == scores[1] else 'AB'[scores[1] > scores[0]]}]]"
    return f"{scores[0]} {scores[1]}\nOne is longer."


def judge(server, *options, a="a.jsonl", b="b.jsonl", model="judge"):
    url = server if isinstance(server, str) else server.url
    return main(["judge", a, b, "--endpoint", url, "--model", model, "--json", "numbers.json", *options])


def numbers():
    return json.loads(Path("numbers.json").read_text())


def kept(name="judgements.jsonl"):
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.err.startswith("zipeft: error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["scores", "verdict"])
def test_fair_judge_gives_wins_ties_and_losses(protocol, capsys):
    answer_files([(5, 3), (6, 2), (4, 4), (1, 9)])
    with serving(longer) as server:
        assert judge(server, "--protocol", protocol) == 0
    found = numbers()
    assert [found[name] for name in ("questions", "wins", "ties", "losses", "unreadable")] == [4, 2, 1, 1, 0]
    assert found["win_rate"] == 2.5 / 4
    assert found["order"] == {"agree": 4, "flipped_to_first": 0, "flipped_to_second": 0, "tie_in_one_order": 0}
    assert (found["a"], found["b"]) == ("model-a", "model-b")
    assert (found["prompt_tokens"], found["completion_tokens"], found["replies_without_usage"]) == (800, 80, 0)
    assert found["judge"]["answered_as"] == ["judge-0613"]
    out = capsys.readouterr().out
    assert "62.5" in out
    assert "800 in prompts, 80 in replies" in out


def test_each_question_is_asked_in_both_orders_and_no_more():
    answer_files([(5, 3), (1, 2)])
    with serving(longer) as server:
        judge(server, "--max-tokens", "77")
    asked = Counter(shown(prompt) for prompt in server.prompts)
    both = [("Question 0?", "aaaaa", "bbb"), ("Question 1?", "a", "bb")]
    assert asked == Counter([*both, *((question, b, a) for question, a, b in both)])
    assert all(body["temperature"] == 0 and body["max_tokens"] == 77 for body in server.bodies)


def test_settings_can_be_left_to_the_server():
    answer_files([(5, 3)])
    with serving(longer) as server:
        judge(server, "--temperature", "none", "--max-tokens", "none")
    assert {name for body in server.bodies for name in body} == {"model", "messages"}


@pytest.mark.parametrize(
    ("reply", "where", "ties"),
    [("9 2", "flipped_to_first", 3), ("2 9", "flipped_to_second", 3), ("5 5", "agree", 3)],
)
def test_judge_that_goes_by_place_decides_nothing(reply, where, ties, capsys):
    answer_files([(5, 3), (6, 2), (1, 9)])
    with serving(lambda prompt, times: reply) as server:
        judge(server)
    assert (numbers()["ties"], numbers()["order"][where], numbers()["win_rate"]) == (ties, 3, 0.5)
    changes = 0 if where == "agree" else 3
    assert f"{changes} of 3 ({100 * changes / 3:.1f} %)" in capsys.readouterr().out


def test_files_given_the_other_way_round_ask_nothing_and_turn_the_result():
    answer_files([(5, 3), (6, 2), (1, 9)])
    with serving(longer) as server:
        judge(server)
        once = numbers()
        assert judge(server, a="b.jsonl", b="a.jsonl") == 0
        assert len(server.bodies) == 6
    assert (numbers()["wins"], numbers()["losses"]) == (once["losses"], once["wins"]) == (1, 2)
    assert numbers()["win_rate_interval"] == pytest.approx([1 - end for end in reversed(once["win_rate_interval"])])


def test_equal_answers_are_one_request():
    write_lines("a.jsonl", [{"id": 1, "instruction": "Q", "answer": "same"}])
    with serving(lambda prompt, times: "8 3") as server:
        judge(server, b="a.jsonl")
    assert len(server.bodies) == 1
    assert (numbers()["ties"], numbers()["replies"], numbers()["prompt_tokens"]) == (1, 1, 100)


def test_categories_are_counted_apart_and_add_up(capsys):
    answer_files([(5, 3), (6, 2), (1, 9)])
    records = [
        {"question_id": n, "text": f"Question {n}?", "category": c} for n, c in enumerate(["math", "math", "a|b"])
    ]
    write_lines("questions.jsonl", records)
    with serving(longer) as server:
        judge(server, "--questions", "questions.jsonl")
    found = numbers()["categories"]
    assert {name: (each["wins"], each["losses"], each["win_rate"]) for name, each in found.items()} == {
        "math": (2, 0, 1.0),
        "a|b": (0, 1, 0.0),
    }
    assert "a\\|b" in capsys.readouterr().out


def test_servers_without_usage_are_told(capsys):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: Raw(200, completion(longer(prompt), usage=None))) as server:
        judge(server)
    assert (numbers()["replies_without_usage"], numbers()["prompt_tokens"]) == (2, 0)
    assert "did not tell those of 2 replies" in capsys.readouterr().out


# --- unreadable replies -----------------------------------------------------------------------------------------------


def test_unreadable_reply_is_asked_for_once_more_with_a_reminder():
    answer_files([(5, 3)])
    with serving(lambda prompt, times: longer(prompt) if "Mind the form" in prompt else "I like both.") as server:
        judge(server, "--workers", "1")
    first, again, *_ = server.prompts
    assert again.startswith(first)
    assert "Mind the form" not in first
    found = numbers()
    assert (found["wins"], found["replies"], found["unreadable_replies"], len(server.bodies)) == (1, 4, 2, 4)


@pytest.mark.parametrize("bad", ["I like both.", "0 11", "99 98"])
def test_unreadable_is_no_win_no_tie_no_loss_and_not_asked_again(bad, capsys):
    answer_files([(5, 3), (2, 2), (9, 3)])

    def script(prompt, times):
        question, first, _ = shown(prompt)
        return bad if question == "Question 2?" and first.startswith("a") else longer(prompt)

    with serving(script) as server:
        judge(server)
        assert len(server.bodies) == 6 + 1
        found = numbers()
        assert [found[name] for name in ("wins", "ties", "losses", "unreadable")] == [1, 1, 0, 1]
        assert found["win_rate"] == 0.75
        assert sum(found["order"].values()) == 2
        assert "unreadable" in capsys.readouterr().out
        judge(server)
        assert len(server.bodies) == 7
    assert numbers() == found


def test_nothing_readable_gives_no_rate(capsys):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: "?") as server:
        assert judge(server) == 0
    assert (numbers()["win_rate"], numbers()["win_rate_interval"], numbers()["unreadable"]) == (None, None, 1)


# --- patience ---------------------------------------------------------------------------------------------------------

TROUBLES = {
    "429": Raw(429, {"error": {"message": "slow down"}}),
    "500": Raw(500, b"oops", Content_Type="text/plain"),
    "503": Raw(503, {"detail": "loading"}),
    "disconnect": DISCONNECT,
    "html": HTML,
    "html called json": Raw(200, b"<html>"),
    "not utf-8": Raw(200, b'"\xff\xfe"'),
    "deep": Raw(200, b"[" * 100_000),
    "empty body": Raw(200, b""),
    "null": Raw(200, None),
    "list": Raw(200, [1]),
    "no choices": Raw(200, {"object": "error", "message": "no model"}),
    "null choices": Raw(200, completion("", choices=None)),
    "empty choices": Raw(200, completion("", choices=[])),
    "choices of text": Raw(200, completion("", choices=["8 9"])),
    "empty content": Raw(200, completion(" \n")),
    "null content": Raw(200, completion(None)),
    "content of parts": Raw(200, completion([{"type": "text", "text": "8 9"}])),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_trouble_that_passes_changes_nothing(trouble):
    answer_files([(5, 3), (1, 9)])
    with serving(lambda prompt, times: longer(prompt) if times > 2 else trouble) as server:
        assert judge(server, "--retries", "2") == 0
    assert len(server.bodies) == 4 * 3
    assert (numbers()["wins"], numbers()["losses"]) == (1, 1)


EMPTY = {"empty content", "null content"}


@pytest.mark.parametrize("trouble", sorted(TROUBLES.keys() - EMPTY))
def test_trouble_that_stays_ends_in_one_line_and_keeps_what_is_done(trouble, capsys):
    answer_files([(5, 3), (1, 9)])
    with serving(lambda prompt, times: longer(prompt) if "Question 0?" in prompt else TROUBLES[trouble]) as server:
        assert judge(server, "--retries", "1", "--workers", "1") == 2
        assert len(server.bodies) == 2 + 2
        line = one_line(capsys)
        assert "question '1'" in line
        assert "2 attempts" in line
        assert "2 replies are in judgements.jsonl" in line
        server.script = longer
        assert judge(server) == 0
        assert len(server.bodies) == 4 + 2


def test_server_that_hangs_is_given_up(capsys):
    answer_files([(5, 3)])
    free = threading.Event()
    with serving(lambda prompt, times: free.wait(30) and DISCONNECT) as server:
        start = time.monotonic()
        assert judge(server, "--timeout", "0.1", "--retries", "1", "--workers", "1") == 2
        assert time.monotonic() - start < 10
        free.set()
    assert "did not reply in time (0.1 s) (2 attempts)" in one_line(capsys)


def test_server_that_is_not_there(capsys):
    answer_files([(5, 3)])
    with serving(longer) as server:
        url = server.url
    assert judge(url, "--retries", "1") == 2
    assert "could not be reached" in one_line(capsys)


@pytest.mark.parametrize("dated", [False, True])
def test_retry_after_is_honoured(dated):
    answer_files([(5, 3)])
    seen = {}

    def script(prompt, times):
        seen.setdefault(prompt, []).append(time.time())
        value = formatdate(time.time() + 2, usegmt=True) if dated else "0.5"  # a date has whole seconds
        return longer(prompt) if times > 1 else Raw(429, {}, Retry_After=value)

    with serving(script) as server:
        assert judge(server) == 0
    assert all(second - first >= 0.5 for first, second in seen.values())


@pytest.mark.parametrize("value", ["86400", "1e999"])
def test_server_that_wants_to_wait_for_a_day_is_given_up_at_once(value, capsys):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: Raw(429, {"error": {"message": "quota"}}, Retry_After=value)) as server:
        assert judge(server, "--workers", "1") == 2
    assert len(server.bodies) == 1
    assert "quota" in one_line(capsys)


@pytest.mark.parametrize("value", ["-5", formatdate(0, usegmt=True)])
def test_time_to_wait_that_is_over_is_not_told(value, capsys):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: Raw(429, {"detail": "full"}, Retry_After=value)) as server:
        assert judge(server, "--retries", "0") == 2
    assert "refused with status 429 (full) (1 attempt);" in one_line(capsys)


@pytest.mark.parametrize("value", ["soon", "nan", "-5", "Fri, 99 Foo 2026"])
def test_senseless_retry_after_is_passed_over(value):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: longer(prompt) if times > 1 else Raw(429, {}, Retry_After=value)) as server:
        assert judge(server) == 0


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (Raw(401, {"error": {"message": "Incorrect API key", "code": "x"}}), "Incorrect API key"),
        (Raw(404, {"detail": "Not Found"}), "Not Found"),
        (Raw(402, {"detail": [{"loc": ["body"]}]}), '[{"loc": ["body"]}]'),
        (Raw(403, b"<html>forbidden</html>", Content_Type="text/html"), "forbidden"),
        (Raw(401, b""), "status 401"),
    ],
)
def test_refusal_ends_at_once_with_what_the_server_said(response, told, capsys):
    answer_files([(5, 3), (1, 9)])
    with serving(lambda prompt, times: response) as server:
        assert judge(server, "--workers", "1") == 2
    assert len(server.bodies) == 1
    line = one_line(capsys)
    assert told in line
    assert f"status {response.status}" in line
    assert "attempt" not in line


UNANSWERED = {
    "filter": Raw(400, {"error": {"message": "content management policy", "code": "content_filter"}}),
    "too long": Raw(400, {"object": "error", "message": "the context is\ntoo long"}),
    "too large": Raw(413, b"<html>", Content_Type="text/html"),
    "not valid": Raw(422, {"detail": [{"loc": ["body"]}]}),
    "cut in thoughts": Raw(200, completion("", choices=[{"message": {}, "finish_reason": "length"}])),
    "filtered": Raw(200, completion("", choices=[{"message": {"content": ""}, "finish_reason": "content_filter"}])),
    "empty": Raw(200, completion(" \n")),
}


@pytest.mark.parametrize("question", [0, 1, 2])
@pytest.mark.parametrize("response", UNANSWERED.values(), ids=UNANSWERED)
def test_question_without_an_answer_is_counted_and_the_others_are_judged(response, question, capsys):
    answer_files([(5, 3), (6, 2), (7, 1)])

    def script(prompt, times):
        return response if f"Question {question}?" in prompt else longer(prompt)

    with serving(script) as server:
        for _ in range(2):
            assert judge(server, "--workers", "1", "--retries", "1") == 0
            assert len(server.bodies) == 4 + 2 * (2 if response is UNANSWERED["empty"] else 1)
            assert [numbers()[name] for name in ("wins", "ties", "losses", "unreadable")] == [2, 0, 0, 1]
            assert len(numbers()["refusals"]) == numbers()["unreadable_replies"] == 2
            assert numbers()["replies_without_usage"] == 0  # a refusal costs nothing that could be told
            assert f"| ... without an answer           | 2, such as question '{question}': " in capsys.readouterr().out
        server.script = longer
        asked = len(server.bodies)
        assert judge(server, "--retry-unanswered") == 0
        assert len(server.bodies) == asked + 2
        assert (numbers()["wins"], numbers()["replies"], numbers()["refusals"]) == (3, 6, [])
        assert judge(server) == 0
    assert len(server.bodies) == asked + 2


@pytest.mark.parametrize(("questions", "asked"), [(1, 2), (3, 6), (9, 8)])
def test_judge_that_answers_nothing_is_given_up_and_nothing_is_kept(questions, asked, capsys):
    answer_files([(5, 3)] * questions)
    refusal = Raw(400, {"error": {"message": "Unsupported parameter: 'max_tokens'"}})
    with serving(lambda prompt, times: refusal) as server:
        assert judge(server, "--workers", "1") == 2
        assert len(server.bodies) == asked
        line = one_line(capsys)
        assert f"question '0': {server.url} refused with status 400 (Unsupported parameter: 'max_tokens'), " in line
        assert f"has answered none of {asked} requests (--max-tokens none and --temperature none " in line
        assert "; 0 replies are in judgements.jsonl" in line
    assert kept() == []


def test_filter_may_catch_all_questions():
    answer_files([(5, 3)] * 9)
    with serving(lambda prompt, times: UNANSWERED["filter"]) as server:
        assert judge(server, "--workers", "1") == 0
    assert numbers()["unreadable"] == 9


def test_another_limit_of_tokens_asks_again_only_what_it_changes():
    answer_files([(5, 3), (6, 2)])

    def script(prompt, times):
        if "Question 1?" in prompt and server.bodies[-1]["max_tokens"] < 50:
            return UNANSWERED["cut in thoughts"]
        return longer(prompt)  # of 10 tokens

    def asked(limit):
        before = len(server.bodies)
        assert judge(server, "--workers", "1", "--max-tokens", limit) == 0
        return len(server.bodies) - before

    with serving(script) as server:
        assert [asked(limit) for limit in ("20", "50", "20", "10", "9")] == [4, 2, 0, 0, 4]
        assert asked("100") == 0
    assert (numbers()["wins"], numbers()["unreadable"]) == (2, 0)


def test_long_words_of_a_server_are_cut(capsys):
    answer_files([(5, 3)])
    with serving(lambda prompt, times: Raw(401, {"detail": "x" * 100_000})) as server:
        judge(server)
    assert len(one_line(capsys)) < 1000


def test_workers_ask_at_once_and_no_more_than_allowed():
    answer_files([(n, 3) for n in (1, 2, 4, 5, 6, 7)])
    together = threading.Barrier(3, timeout=20)

    def script(prompt, times):
        together.wait()
        return longer(prompt)

    with serving(script) as server:
        assert judge(server, "--workers", "3") == 0
    assert server.most_at_once == 3


def test_workers_beyond_what_there_is_to_ask_cost_nothing():
    answer_files([(5, 3)])
    with serving(longer) as server:
        start = time.monotonic()
        assert judge(server, "--workers", "3000000") == 0
        assert time.monotonic() - start < 20
    assert server.most_at_once <= 2


def test_what_others_wrote_does_not_command_the_terminal(capsys):
    answer_files([(5, 3)], model="\x1b]0;a\x07")
    with serving(lambda prompt, times: Raw(200, completion("9 2", model="\x1b[2Jgpt\u202e"))) as server:
        assert judge(server) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert r"\x1b" in out
    with serving(lambda prompt, times: Raw(401, {"detail": "\x1b[2J\x9bno\r\x00"})) as server:
        assert judge(server, "--out", "other.jsonl") == 2
    assert r"status 401 (\x1b[2J\x9bno \x00)" in one_line(capsys)


# --- the key ----------------------------------------------------------------------------------------------------------

KEY = "sk-secret-0123456789"


@pytest.mark.parametrize("variable", [None, "MY_KEY"])
def test_key_goes_to_the_server_and_nowhere_else(variable, monkeypatch, capsys):
    answer_files([(5, 3), (1, 9)])
    monkeypatch.setenv(variable or "OPENAI_API_KEY", KEY)
    options = ["--api-key-env", variable] if variable else []

    def script(prompt, times):
        if "Question 0?" in prompt:
            return f"{longer(prompt)}\nYour key is {KEY}."
        return Raw(401, {"error": {"message": f"wrong key {KEY}"}})

    with serving(script) as server:
        assert judge(server, *options, "--workers", "1") == 2
    assert set(server.keys) == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    everything = captured.out + captured.err + "".join(path.read_text() for path in Path().iterdir())
    assert "wrong key ***" in everything
    assert KEY not in everything


@pytest.mark.parametrize("key", ["sk-ключ", "two\nlines-of-key"])
def test_key_that_is_none_is_refused_without_showing_it(key, monkeypatch, capsys):
    answer_files([(5, 3)])
    monkeypatch.setenv("OPENAI_API_KEY", key)
    assert judge("http://127.0.0.1:9/v1") == 2
    assert key.split("\n")[0] not in one_line(capsys)


def test_variable_that_is_not_set_is_refused_without_showing_what_may_be_a_key(capsys):
    answer_files([(5, 3)])
    assert judge("http://127.0.0.1:9/v1", "--api-key-env", KEY) == 2
    assert KEY not in one_line(capsys)


# --- going on ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path):
    """Start the command as a process of its own; what is left of them ends with the test."""
    started = []

    def run(server, *options):
        command = [sys.executable, "-m", "zipeft", "judge", "a.jsonl", "b.jsonl", "--endpoint", server.url]
        # A shell starts what is in its background with Ctrl-C ignored, and so would the tests' own processes.
        heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)} if os.name == "posix" else {}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **heeds}
        started.append(subprocess.Popen([*command, "--model", "judge", *options], cwd=tmp_path, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


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


# --- files ------------------------------------------------------------------------------------------------------------


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


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forth", "back", "result", "position"),
    [
        (FIRST, SECOND, "win", "agrees"),
        (SECOND, FIRST, "loss", "agrees"),
        (TIE, TIE, TIE, "agrees"),
        (FIRST, FIRST, TIE, "first"),
        (SECOND, SECOND, TIE, "second"),
        (FIRST, TIE, TIE, "tie"),
        (TIE, FIRST, TIE, "tie"),
        (None, SECOND, "unreadable", None),
        (FIRST, None, "unreadable", None),
    ],
)
def test_outcome_of_both_orders(forth, back, result, position):
    verdicts = [winner and Verdict(winner) for winner in (forth, back)]
    assert outcome(verdicts) == result
    assert position is None or change(*verdicts) == position


def test_interval_is_that_of_a_bootstrap_over_questions():
    lengths = [(5, 3)] * 9 + [(4, 4)] * 5 + [(2, 3)] * 6
    answer_files(lengths)
    with serving(longer) as server:
        judge(server, "--workers", "8")
    points = np.array([1.0] * 9 + [0.5] * 5 + [0.0] * 6)
    means = np.random.default_rng(1).choice(points, (20_000, 20)).mean(1)
    assert numbers()["win_rate"] == points.mean()
    assert numbers()["win_rate_interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.026)


def test_single_question_has_no_interval(capsys):
    answer_files([(5, 3)])
    with serving(longer) as server:
        judge(server)
    assert (numbers()["win_rate"], numbers()["win_rate_interval"]) == (1.0, None)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--endpoint", "localhost:8000"], "no URL such as"),
        (["--endpoint", "ftp://x/v1"], "no URL such as"),
        (["--endpoint", "http://[x/v1"], "no URL"),
        (["--endpoint", "http://x:99999/v1"], "no URL"),
        (["--endpoint", "http://user:sk-secret@x/v1"], "a key goes in the environment"),
        (["--endpoint", "http://x/v1?key=sk-secret"], "a key goes in the environment"),
        (["--endpoint", "http://\udcff/v1"], "is no URL"),
        (["--workers", "0"], "0 is out of range: give 1 or more"),
        (["--workers", "many"], "invalid"),
        (["--retries", "-1"], "-1 is out of range: give 0 or more"),
        (["--timeout", "0"], "is out of range: give 0.001 or more"),
        (["--timeout", "nan"], "is out of range: give 0.001 or more"),
        (["--temperature", "3"], "3.0 is out of range: give a number from 0 to 2"),
        (["--max-tokens", "0"], "0 is out of range: give 1 or more"),
        (["--protocol", "pairs"], "invalid choice"),
    ],
)
def test_bad_options_are_one_line_that_shows_no_key(options, told, capsys):
    answer_files([(5, 3)])
    assert judge("http://127.0.0.1:9/v1", *options) == 2
    line = one_line(capsys)
    assert told in line
    assert "sk-secret" not in line


def test_endpoint_may_be_written_to_its_end():
    answer_files([(5, 3)])
    with serving(longer) as server:
        for ending in ("/", "/chat/completions"):
            assert judge(server.url + ending, "--out", "new.jsonl") == 0


def test_proxy_that_cannot_be_used_is_one_line(monkeypatch, capsys):
    answer_files([(5, 3)])
    monkeypatch.setenv("ALL_PROXY", "foo://127.0.0.1:9")
    assert judge("http://127.0.0.1:9/v1") == 2
    assert "check the proxy" in one_line(capsys)


def test_without_the_client_one_line_names_the_extra(monkeypatch, capsys):
    answer_files([(5, 3)])
    monkeypatch.setitem(sys.modules, "openai", None)
    monkeypatch.delitem(sys.modules, "zipeft.judge.client")
    assert judge("http://127.0.0.1:9/v1") == 2
    assert "pip install 'zipeft[judge]'" in one_line(capsys)
