"""The judge's server: replies that cannot be read, patience with trouble, and the key."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from support.chat_server import DISCONNECT, Raw, completion, serving, shown
from support.contests import answer_files, judge, kept, longer, numbers, one_line

HTML = Raw(200, b"<html><body>Bad gateway</body></html>", Content_Type="text/html")


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
