"""Averages over groups of data sets, and what is summed up from other scores, as tasks define them."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import fmean

import pytest

from support.leaderboard_factory import build, cells, drawn_results, make_results
from support.toys import ToyTask
from zipeft import registry
from zipeft.api.task import Average, Summary
from zipeft.formatting import DASH
from zipeft.leaderboard.ranking import average_columns, summary_rows

GROUPS = (
    Average("plain", {"a": 0.5, "b": 0.5}),
    Average("single", {"c": 1.0}),
    Average("mean of groups", {"a": 0.25, "b": 0.25, "c": 0.5}),
    Average("with another", {"a": 0.5, "d": 0.5}),
    Average("of others", {"e": 0.5, "f": 0.5}),
)


@pytest.fixture
def task_with(monkeypatch):
    """Return a function that gives the task of the factory's results averages and summaries."""

    def give(**attributes):
        task = type("Grouped", (ToyTask,), {"__doc__": "Grouped.", **attributes})
        monkeypatch.setitem(registry.tasks._registered, "fgvc", task)

    return give


def plain(cell: str) -> float:
    return float(re.search(r"[\d.]+", cell)[0])


def test_averages_are_weighted_means_with_their_intervals():
    results = drawn_results({"linear": 0.4, "lora": 0.7}, {"a": 40, "b": 80, "c": 20})
    rows = summary_rows(results)
    columns = dict(zip(("plain", "single", "mean of groups"), average_columns(rows, GROUPS[:3]), strict=True))
    for row in rows:
        score = {name: row.scores[name].mean for name in "abc"}
        group = (score["a"] + score["b"]) / 2
        assert columns["plain"][row.label].mean == pytest.approx(group)
        assert columns["single"][row.label] == row.scores["c"]
        whole = columns["mean of groups"][row.label]
        assert whole.mean == pytest.approx((group + score["c"]) / 2)
        assert whole.low < whole.mean < whole.high
    assert [columns["mean of groups"][row.label].rank for row in rows] == [1, 2]


def test_equal_weights_give_the_interval_of_the_plain_mean():
    rows = summary_rows(drawn_results({"linear": 0.4, "lora": 0.7}, {"a": 40, "b": 80}))
    (column,) = average_columns(rows, GROUPS[:1])
    for row in rows:
        for name in ("mean", "low", "high", "p"):
            assert getattr(column[row.label], name) == pytest.approx(getattr(row.mean, name))


def test_a_set_that_hardly_counts_hardly_moves_the_interval():
    rows = summary_rows(drawn_results({"linear": 0.4, "lora": 0.7}, {"a": 200, "b": 5}, seeds=10))
    (column,) = average_columns(rows, [Average("nearly a", {"a": 0.999, "b": 0.001})])
    for row in rows:
        for name in ("mean", "low", "high"):
            assert getattr(column[row.label], name) == pytest.approx(getattr(row.scores["a"], name), abs=0.004)
        assert row.mean.high - row.mean.low > 2 * (row.scores["a"].high - row.scores["a"].low)  # with equal weights


def test_a_page_shows_averages_and_prints_none_that_lacks_a_data_set(tmp_path, task_with):
    task_with(averages=GROUPS)
    rows = cells(build(tmp_path, make_results(("a", "b", "c")), "md")["vit-fgvc.md"])
    header, lora = rows["method"], rows["lora"]
    assert header[1:9] == ["a", "b", "c", "d", "plain", "single", "mean of groups", "with another"]
    assert header[9] == "mean of 3 sets"  # "of others" has no data set here
    value = dict(zip(header, lora, strict=True))
    assert value["d"] == value["with another"] == DASH
    a, b, c = (plain(value[name]) for name in "abc")
    assert plain(value["plain"]) == pytest.approx((a + b) / 2, abs=0.11)
    assert plain(value["mean of groups"]) == pytest.approx(((a + b) / 2 + c) / 2, abs=0.11)
    assert plain(value["mean of 3 sets"]) == pytest.approx(fmean([a, b, c]), abs=0.11)


def test_a_row_that_lacks_a_data_set_has_no_average_that_needs_it(tmp_path, task_with):
    task_with(averages=GROUPS)
    results = [r for r in make_results(("a", "b", "c")) if (r.method.name, r.task.dataset) != ("lora", "c")]
    rows = cells(build(tmp_path, results, "md")["vit-fgvc.md"])
    value = dict(zip(rows["method"], rows["lora"], strict=True))
    assert value["single"] == value["mean of groups"] == value["mean of 3 sets"] == DASH
    assert value["plain"] != DASH


def test_one_data_set_alone_has_no_averages(tmp_path, task_with):
    task_with(averages=GROUPS)
    rows = cells(build(tmp_path, make_results(("a",)), "md")["vit-fgvc.md"])
    assert not {"plain", "mean of groups", "b"} & set(rows["method"])


def test_weights_add_up_to_one():
    with pytest.raises(ValueError, match="'half' add up to"):
        Average("half", {"a": 0.5})


def test_other_scores_are_summed_up_after_they_are_averaged(tmp_path, task_with):
    meaning = "Product of means: base times novel."
    task_with(summaries=(Summary("product", meaning, ("base", "novel"), lambda means: means["base"] * means["novel"]),))
    base, novel = {"a": 0.5, "b": 0.7}, {"a": 0.1, "b": 0.3}
    results = [
        replace(r, test={**r.test, "base": base[r.task.dataset], "novel": novel[r.task.dataset]})
        for r in make_results(("a", "b"))
    ]
    page = build(tmp_path, results, "md")["vit-fgvc.md"]
    table = page[page.index("### Other scores") :]
    assert "| product |" in re.sub(" +", " ", table)
    (line,) = (line for line in table.splitlines() if line.startswith("| lora") and "50.0" in line)
    assert line.rstrip("| ").endswith("12.0")  # 0.6 * 0.2; the mean of the products is 0.13
    assert meaning in table


def test_a_summary_needs_all_its_scores(tmp_path, task_with):
    task_with(summaries=(Summary("product", "Never.", ("base", "novel"), lambda means: 1 / 0),))
    results = [replace(r, test={**r.test, "base": 0.5}) for r in make_results(("a", "b"))]
    page = build(tmp_path, results, "md")["vit-fgvc.md"]
    table = page[page.index("### Other scores") :]
    (line,) = (line for line in table.splitlines() if line.startswith("| lora") and "50.0" in line)
    assert line.rstrip("| ").endswith(DASH)
