"""zipeft judge: files, prompts, verdicts, patience with servers, what is kept, and the numbers that come out."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest

from support.chat_server import Raw, completion, serving, shown
from support.contests import answer_files, judge, longer, numbers, one_line, write_lines
from zipeft.judge.statistics import change, outcome
from zipeft.judge.verdicts import FIRST, SECOND, TIE, Verdict

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
