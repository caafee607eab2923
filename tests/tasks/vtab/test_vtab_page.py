"""VTAB-1k from the command to the page: a table with groups, both means, and the published rows beside it."""

from __future__ import annotations

from statistics import fmean

import pytest

from support.leaderboard_factory import build, cells
from support.result_factory import make_result
from support.toys import registered
from zipeft.commands.run import main
from zipeft.formatting import DASH
from zipeft.leaderboard.ranking import summary_rows
from zipeft.leaderboard.tables import main_table
from zipeft.results import Result
from zipeft.tasks.vtab.embedded import EMBEDDED
from zipeft.tasks.vtab.embedded import GROUPS as EMBEDDED_GROUPS
from zipeft.tasks.vtab.sets import SETS

GROUPS = {
    group: [name for name in SETS if SETS[name].group == group] for group in ("natural", "specialised", "structured")
}


def score(dataset: str) -> float:
    """Return a score that no other data set has."""
    return 0.2 + 0.013 * [*SETS, *EMBEDDED].index(dataset)


def results_of(datasets) -> list[Result]:
    return [
        make_result("lora", name, seed, score(name), **{"task.name": "vtab"}) for name in datasets for seed in (0, 1, 2)
    ]


def row_of(datasets) -> dict[str, float | str]:
    """Return scores and means by their headers: numbers without their intervals, and what is no number as it is."""
    table = main_table(summary_rows(results_of(datasets)))
    headers = [column.header for column in table.columns]
    assert len(set(headers)) == len(headers)
    cells = dict(zip(headers, (cell.text for cell in table.rows[0]), strict=True))
    first, *costs = (headers.index(name) for name in ("rank", "trainable\nparameters"))
    return {name: DASH if cells[name] == DASH else float(cells[name]) for name in headers[first + 1 : costs[0]]}


def mean(datasets) -> float:
    return pytest.approx(100 * fmean(map(score, datasets)), abs=0.051)


def test_groups_and_both_means_are_those_computed_by_hand():
    row = row_of(SETS)
    assert set(row) == {*SETS, *GROUPS, "mean of groups", "mean of the 19"}
    assert [row[group] for group in GROUPS] == [mean(members) for members in GROUPS.values()]
    by_group = [fmean(map(score, members)) for members in GROUPS.values()]
    assert row["mean of groups"] == pytest.approx(100 * fmean(by_group), abs=0.051)
    assert row["mean of the 19"] == mean(SETS)


@pytest.mark.parametrize("missing", ["svhn", "eurosat", "dmlab"])
def test_a_missing_set_is_shown_and_no_mean_that_needs_it_is_printed(missing):
    there = [name for name in SETS if name != missing]
    row = row_of(there)
    assert row[missing] == row[SETS[missing].group] == row["mean of groups"] == row["mean of the 19"] == DASH
    assert row["mean of 18 sets"] == mean(there)
    others = [group for group in GROUPS if missing not in GROUPS[group]]
    assert [row[group] for group in others] == [mean(GROUPS[group]) for group in others]


def test_embedded_sets_have_means_of_their_own_also_beside_the_published_ones():
    alone, both = row_of(EMBEDDED), row_of([*SETS, *EMBEDDED])
    own = {f"embedded {group}": mean(names) for group, names in EMBEDDED_GROUPS.items()}
    own["mean of embedded sets"] = mean(EMBEDDED)
    assert set(alone) == {*EMBEDDED, *own, "mean of embedded groups"}
    for row in (alone, both):
        assert {name: row[name] for name in own} == own
    assert both["natural"] == mean(GROUPS["natural"])
    assert both["mean of the 19"] == mean(SETS)
    assert both["mean of 24 sets"] == mean([*SETS, *EMBEDDED])


def test_published_rows_stand_beside_with_both_means(tmp_path):
    page = cells(build(tmp_path, results_of(["svhn"]), "md")["vit-vtab.md"])
    assert page["Zero-initialised attention (LLaMA-Adapter)"][-2:] == ["74.32", "71.80"]
    assert page["Full (VPT)"][-2:] == ["68.97", "65.57"]


def test_a_run_ends_in_a_table_with_groups(capsys, tmp_path):
    drawn = EMBEDDED_GROUPS["structured"]
    settings = [f"vtab.sets={','.join(drawn)}", "vtab.test_examples=8", "vtab.image_size=16"]
    arguments = ["--backbone", "toy", "--task", "vtab", "--method", "linear", "--seeds", "1", "--steps", "1"]
    with registered():
        chosen = [part for each in settings for part in ("--set", each)]
        assert main([*arguments, *chosen, "--results", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in (*drawn, "embedded structured", "mean of embedded groups"))
