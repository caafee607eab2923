"""What moved between two sets of results: the same rows are paired, noise is told from change, nothing is left out."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess

import pytest

from support.leaderboard_factory import drawn_results, make_results
from support.result_factory import PROTOCOL, make_result
from zipeft.commands import main as zipeft
from zipeft.leaderboard.movement import EQUAL, HIGHER, LOWER, MEAN, NOISE, UNKNOWN, movement
from zipeft.results import save_result

CHANCES = {"linear": 0.4, "lora": 0.7}
SETS = {"icons": 200, "typefaces": 150}


def verdicts(moves):
    return {(move.label, move.dataset): move.verdict for move in moves.moves}


def shifted(results, by, method="lora", rng=None):
    """Return results in which so many of a method's answers more are right (or wrong, below 0)."""
    rng, found = rng or random.Random(1), []
    for result in results:
        if result.method.name == method:
            scores = list(result.item_scores)
            open_ = [index for index, score in enumerate(scores) if score == (0.0 if by > 0 else 1.0)]
            for index in rng.sample(open_, abs(by)):
                scores[index] = 1 - scores[index]
            result = dataclasses.replace(
                result, item_scores=tuple(scores), test={"accuracy": sum(scores) / len(scores)}
            )
        found.append(result)
    return found


def test_nothing_moves_where_all_is_the_same():
    results = drawn_results(CHANCES, SETS)
    found = movement(results, reversed(results))
    assert set(verdicts(found).values()) == {EQUAL}
    assert verdicts(found).keys() == {(method, name) for method in CHANCES for name in (*SETS, MEAN)}
    assert not found.only_before
    assert not found.only_after
    assert all(move.gap.mean == 0 and move.p == 1 for move in found.moves)


@pytest.mark.parametrize(("by", "verdict"), [((25,), HIGHER), ((-25,), LOWER), ((9, -8), NOISE), ((8, -9), NOISE)])
def test_what_moves_beyond_noise_is_told_from_what_does_not(by, verdict):
    before = drawn_results(CHANCES, SETS, seeds=5)
    after = before
    for each in by:
        after = shifted(after, each)
    found = movement(before, after)
    assert {key for key, said in verdicts(found).items() if said == verdict} == {
        ("lora", name) for name in (*SETS, MEAN)
    }
    for move in found.moves:
        a, b = move.scores
        assert move.gap.mean == pytest.approx(b - a)
        low, high = move.gap.interval()
        assert low <= b - a <= high
        if move.label == "linear":
            assert move.verdict == EQUAL
    back = {(move.label, move.dataset): move for move in movement(after, before).moves}
    for move in found.moves:
        assert back[move.label, move.dataset].gap.mean == pytest.approx(-move.gap.mean)
        assert back[move.label, move.dataset].p == pytest.approx(move.p)


def test_two_draws_of_the_same_are_seldom_told_apart():
    """Of 20 families of two rows, in none of which anything moved, few may have a row that did."""
    wrong = 0
    for seed in range(20):
        rng = random.Random(seed)
        sides = [
            [
                make_result(method, seed=run, score=sum(items) / 60, items=60, item_scores=items)
                for method in ("a", "b")
                for run in range(3)
                for items in [tuple(float(rng.random() < 0.6) for _ in range(60))]
            ]
            for _ in range(2)
        ]
        wrong += any(move.verdict in (HIGHER, LOWER) for move in movement(*sides).moves)
    assert wrong <= 3  # at 5 %, one is expected


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_tell_nothing(seeds):
    before = make_results(seeds=seeds)
    after = [
        dataclasses.replace(each, item_scores=(0.9,) * 4, test={"accuracy": 0.9}, predictions=(9,) * 4)
        for each in before
    ]
    assert set(verdicts(movement(before, after)).values()) == {UNKNOWN}


@pytest.mark.parametrize(
    "change",
    [
        {"task.checksum": "ef" * 32},
        {"task.settings": {"image_size": 112}},
        {"backbone.checkpoint": "other"},
        {"backbone.checksum": "ef" * 32},
        {"version": 2},
        {"protocol": {**PROTOCOL, "epochs": 11}},
        {"method.settings": {"learning_rate": 0.5}},
        {"method.space": {"learning_rate": {"low": 0.1, "high": 1.0, "log": True}}},
    ],
    ids=str,
)
def test_only_what_is_comparable_is_paired(change):
    before = [make_result(seed=seed) for seed in range(3)]
    after = [make_result(seed=seed, **change) for seed in range(3)]
    found = movement(before, after)
    assert not found.moves
    for rows in (found.only_before, found.only_after):
        (row,) = rows
        assert len(row.results) == 3
        assert row.why


def test_a_search_that_chose_otherwise_is_the_same_row_and_is_told():
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    sides = [[make_result(seed=s, space=space, settings={"learning_rate": rate}) for s in range(3)] for rate in (1, 2)]
    (move,) = movement(*sides).moves
    assert move.chosen == "learning_rate 1 / 2"


def test_the_newest_of_a_seed_counts():
    old = [make_result(seed=seed, score=0.2, created="2025-01-01T00:00:00Z") for seed in range(3)]
    new = [make_result(seed=seed, score=0.6, created="2026-01-01T00:00:00Z") for seed in range(3)]
    (move,) = movement([*new, *old], new).moves
    assert move.verdict == EQUAL
    assert move.scores == (pytest.approx(0.6), pytest.approx(0.6))


# The command.


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = drawn_results(CHANCES, SETS, seeds=4)
    for name, results in (("a", before), ("b", shifted(before, 25))):
        for result in results:
            save_result(tmp_path / name, result)
    return before


def test_the_page_and_the_numbers_say_the_same(stores, capsys):
    assert zipeft(["compare", "a", "a"]) == 0
    assert "Rows in both: 4 (4 equal); only before: 0; only after: 0." in capsys.readouterr().out
    assert zipeft(["compare", "a", "b"]) == 1
    page = capsys.readouterr().out
    assert "(2 equal and 2 higher)" in page
    assert zipeft(["compare", "a", "b", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in content["rows"]].count("higher") == 3  # the mean over the sets too
    for row in content["rows"]:
        assert row["difference"] == pytest.approx(row["after"] - row["before"])
        assert f"{100 * row['difference']:+.1f} ({100 * row['interval'][0]:+.1f}" in page
        assert row["costs"]["training_seconds"] == [40.0, 40.0]


def test_times_of_two_machines_are_not_compared(stores, tmp_path, capsys):
    other = dataclasses.replace(stores[0].environment, cpu="Another CPU")
    for result in stores:
        cost = dataclasses.replace(result.cost, train_seconds=18.0, trainable_parameters=2 * 147_456)
        save_result(tmp_path / "c", dataclasses.replace(result, environment=other, cost=cost))
    assert zipeft(["compare", "a", "c"]) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "icons" in line and "lora" in line and "K" in line
    ]
    assert "147.5K / 294.9K (×2.00)" in line  # noqa: RUF001
    assert "40 s / 20 s (other machine)" in line


def test_records_of_two_commits_in_one_folder(stores, tmp_path, capsys):
    for result in shifted(stores, -25):
        used = dataclasses.replace(result.environment, commit="ab" * 20, versions={"zipeft": "0.2.0"})
        save_result(tmp_path / "a" / "later", dataclasses.replace(result, environment=used))
    for later in ("a@abab", "a@0.2.0"):
        assert zipeft(["compare", "a@0f0f", later]) == 1
        assert "(2 equal and 2 lower)" in capsys.readouterr().out
    assert zipeft(["compare", "a@0f0f", "a@1234567"]) == 2
    assert "no valid results of runs in a@1234567" in capsys.readouterr().err


def test_a_folder_as_it_stood_in_git(stores, tmp_path, capsys):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *arguments], check=True, capture_output=True
        )

    git("init")
    git("add", "a")
    git("commit", "-m", "before")
    for result in shifted(stores, 25):
        save_result(tmp_path / "a", result)
    assert zipeft(["compare", "HEAD:a", "a"]) == 1
    assert "(2 equal and 2 higher)" in capsys.readouterr().out
    for wrong in ("none:a", "HEAD:none", "--help:a", "a@", "none", ":a", "HEAD:"):
        assert zipeft(["compare", "--", wrong, "a"]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
