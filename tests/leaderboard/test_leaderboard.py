"""The leaderboard: rows, ranks, tables for the terminal, and the command."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import regenerate_leaderboards
from scipy.stats import ttest_1samp

from support.leaderboard_factory import build, drawn_results, make_results
from support.result_factory import PROTOCOL, make_failure, make_result, make_trial, unmeasured
from zipeft import formatting
from zipeft.commands.leaderboard import main
from zipeft.formatting import DASH, counted
from zipeft.leaderboard.blocks import DOWN, UP
from zipeft.leaderboard.costs import MEMORY, held_up, meaning
from zipeft.leaderboard.ranking import BEST, TIED, UNKNOWN, WORSE, summary_rows
from zipeft.leaderboard.secondary_scores import other_table
from zipeft.leaderboard.sections import section_differences, sections
from zipeft.leaderboard.tables import cost_table, terminal_table
from zipeft.results import Store, result_path, save_result

# Rows.


def by_label(results):
    return {row.label: row for row in summary_rows(results)}


def ranks(results):
    return {row.label: row.mean.rank for row in summary_rows(results) if row.mean}


SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def test_the_mean_is_over_data_sets_for_each_seed():
    results = [make_result(dataset="a", seed=seed, score=seed / 10) for seed in (1, 2, 3)]
    results += [make_result(dataset="b", seed=seed, score=seed / 5) for seed in (2, 3, 4)]
    (row,) = summary_rows(results)
    assert row.seeds == [2, 3]
    assert row.mean.mean == pytest.approx((0.2 + 0.4 + 0.3 + 0.6) / 4)
    assert {name: (score.mean, score.seeds) for name, score in row.scores.items()} == {
        "a": (pytest.approx(0.2), 3),
        "b": (pytest.approx(0.6), 3),
    }


def test_rows_are_ranked_and_ties_share_a_rank():
    rows = summary_rows(make_results())
    assert [(row.label, row.mean.verdict, row.mean.rank) for row in rows] == [
        ("lora", BEST, 1),
        ("zero_gated", TIED, 1),
        ("linear", WORSE, 3),
    ]
    assert rows[0].mean.p is None
    assert rows[1].mean.p > 0.05
    assert rows[2].mean.p == pytest.approx(2 * ttest_1samp([0.30, 0.24, 0.30], 0).pvalue)  # the second of three pairs
    assert rows[0].mean.low < rows[0].mean.mean < rows[0].mean.high


def test_all_pairs_are_corrected_for_their_number():
    # Alone with the best row, its difference counts; beside twenty more pairs of rows it does not.
    two = {"a": 0.60, "b": 0.52}
    few = drawn_results(two, {"icons": 300})
    many = drawn_results({**two, **{f"c{index}": 0.56 for index in range(5)}}, {"icons": 300})
    assert ranks(few) == {"a": 1, "b": 2}
    p = {size: by_label(results)["b"].mean.p for size, results in (("few", few), ("many", many))}
    assert 0.0002 < p["few"] < 0.05
    assert p["many"] > 5 * p["few"]


def test_a_comparison_pairs_seeds():
    together = {"a": (0.50, 0.60, 0.70), "b": (0.49, 0.59, 0.69)}
    assert ranks(make_results(scores=together)) == {"a": 1, "b": 2}
    crosswise = {"a": (0.50, 0.60, 0.70), "b": (0.69, 0.59, 0.49)}
    assert ranks(make_results(scores=crosswise)) == {"a": 1, "b": 1}


def test_a_comparison_pairs_items():
    # The same number of right answers with the same variation, on the same items but for 12 or on other items.
    items, right = 300, tuple([1.0] * 150 + [0.0] * 150)
    same = tuple([0.0] * 12 + list(right[12:]))
    other = right[::-1][:-12] + tuple([0.0] * 12)
    for scores, apart in ((same, True), (other, False)):
        results = [
            make_result(name, seed=seed, score=sum(own) / items, items=items, item_scores=own)
            for name, own in (("a", right), ("b", scores))
            for seed in range(3)
        ]
        assert (ranks(results)["b"] == 2) == apart


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_rank(seeds):
    rows = summary_rows(drawn_results({"a": 0.9, "b": 0.1}, {"icons": 50}, seeds))
    assert [(row.mean.verdict, row.mean.rank, row.mean.p) for row in rows] == [(UNKNOWN, None, None)] * 2
    assert all(row.mean.low < row.mean.mean < row.mean.high for row in rows)


def test_a_row_of_few_seeds_is_not_ranked_among_the_others():
    rows = by_label([*make_results(), *make_results(scores={"full": (0.99,)})])
    assert {label: row.mean.rank for label, row in rows.items()} == {
        "full": None,
        "lora": 1,
        "zero_gated": 1,
        "linear": 3,
    }
    assert rows["full"].mean.verdict == UNKNOWN
    assert rows["lora"].mean.verdict == BEST


@pytest.mark.parametrize(("seeds", "rank"), [(3, None), (5, None), (6, 2)])
def test_without_items_a_rank_takes_six_seeds(seeds, rank):
    scores = {"a": [0.8 + 0.01 * seed for seed in range(seeds)], "b": [0.5 + 0.02 * seed for seed in range(seeds)]}
    rows = by_label(make_results(seeds=seeds, scores=scores, **{"item_scores": ()}))
    assert rows["b"].mean.rank == rank
    assert rows["b"].mean.low < rows["b"].mean.high  # from the seeds


def test_one_seed_without_items_has_no_interval():
    (row,) = summary_rows([make_result(score=0.5, **{"item_scores": ()})])
    assert (row.mean.mean, row.mean.low, row.mean.high) == (0.5, None, None)


def test_equal_rows_share_the_first_rank():
    rows = summary_rows(make_results(scores={"a": (0.5, 0.5, 0.5), "b": (0.5, 0.5, 0.5)}))
    assert [(row.mean.rank, row.mean.verdict) for row in rows] == [(1, BEST), (1, TIED)]
    assert rows[1].mean.p == 1
    assert (rows[0].mean.low, rows[0].mean.high) == pytest.approx((0.55, 0.55))


def test_items_that_are_not_the_same_are_not_paired():
    results = make_results(["icons"])
    odd = [
        make_result("odd", "icons", seed, 0.1, **{"targets": (9, 9, 9, seed)})  # not even the same from seed to seed
        for seed in range(3)
    ]
    rows = by_label([*results, *odd])
    assert rows["odd"].mean.rank is None
    assert rows["linear"].mean.rank == 3
    longer = [make_result("longer", "icons", seed, 0.1, items=7) for seed in range(3)]
    assert by_label([*results, *longer])["longer"].mean.rank is None


def test_searched_settings_do_not_split_a_row():
    results = [
        make_result(dataset=dataset, settings={"learning_rate": rate, "rank": 8}, space=SPACE)
        for dataset, rate in (("icons", 0.001), ("typefaces", 0.003))
    ]
    (row,) = summary_rows(results)
    assert row.label == "lora"
    assert set(row.scores) == {"icons", "typefaces"}


def test_fixed_settings_and_spaces_that_differ_make_rows_of_their_own():
    long = make_result("zero_gated", settings={"length": 50, "rate": 0.1})
    short = make_result("zero_gated", settings={"length": 10, "rate": 0.1})
    other = make_result("lora", settings={"rank": 8})
    assert set(by_label([long, short, other])) == {"zero_gated (length=50)", "zero_gated (length=10)", "lora"}
    lacking = make_result("zero_gated", settings={"rate": 0.1})
    assert set(by_label([long, lacking])) == {"zero_gated (length=50)", "zero_gated"}
    wide = {"learning_rate": {"low": 1e-5, "high": 1.0, "log": True}}
    few = {"learning_rate": {"values": [0.1, 0.2]}}
    assert set(by_label([make_result(space=space) for space in (SPACE, wide, few, None)])) == {
        "lora (learning_rate=0.0001 to 0.01 (logarithmic))",
        "lora (learning_rate=1e-05 to 1 (logarithmic))",
        "lora (learning_rate=0.1 or 0.2)",
        "lora (learning_rate=0.001)",
    }


# Sections.


def test_the_newest_result_of_a_run_counts():
    old = make_result(score=0.1, created="2026-01-31T23:59:59Z")
    new = make_result(score=0.9, created="2026-02-01T00:00:00+00:00")
    for results in ([old, new], [new, old], [old, new, new]):
        (section,) = sections(results)
        assert section.results == [new]
        assert section.superseded == len(results) - 1


def test_what_is_not_comparable_is_never_ranked_together():
    variants = [
        make_results(),
        make_results(protocol={**PROTOCOL, "epochs": 3}),
        make_results(protocol={**PROTOCOL, "trials": 4}),
        make_results(**{"task.settings": {"image_size": 56}}),
        make_results(**{"backbone.checkpoint": "other"}),
        make_results(**{"version": 99}),
    ]
    found = sections(result for group in variants for result in group)
    assert len(found) == len(variants)
    assert {len(section.results) for section in found} == {len(variants[0])}
    for a, b in combinations(found, 2):
        assert section_differences(a, b)
    assert section_differences(found[0], found[0]) == []


def test_a_changed_data_set_starts_a_section_of_its_own():
    changed = {"task.checksum": "ef" * 32, "created": "2026-02-01T00:00:00Z"}
    new_icons = make_results(datasets=["icons"], **changed)
    newest, oldest = sections([*make_results(), *new_icons])
    assert {(r.task.dataset, r.task.checksum[:2]) for r in newest.results} == {("icons", "ef"), ("typefaces", "cd")}
    assert {(r.task.dataset, r.task.checksum[:2]) for r in oldest.results} == {("icons", "cd")}
    assert section_differences(newest, oldest) == ["dataset icons checksum efefefef / cdcdcdcd"]


# Numbers and words.


def test_numbers_are_written_for_people():
    counts = {0: "0", 930: "930", 46_092: "46.1K", 999_949: "999.9K", 999_960: "1.00M", 22_060_000: "22.06M"}
    assert {value: formatting.count(value) for value in counts} == counts
    assert formatting.count(6_738_415_616) == "6.74B"
    sizes = {999: "999 B", 184_368: "184 kB", 999_600: "1.0 MB", 88_240_000: "88.2 MB", 1_210_000_000: "1.21 GB"}
    assert {value: formatting.size(value) for value in sizes} == sizes
    assert formatting.size(5e12) == "5000.00 GB"
    times = {0.42: "0.4 s", 9.96: "10 s", 38: "38 s", 59.6: "1.0 min", 126: "2.1 min", 3597.5: "1.0 h", 5400: "1.5 h"}
    times |= {0.0023: "2.3 ms", 0.068: "68 ms", 0.0996: "0.1 s", 0: "0.0 ms"}
    assert {value: formatting.duration(value) for value in times} == times
    assert formatting.span([1000, 1000], formatting.count) == "1.0K"
    assert formatting.span([634_000, 718_000], formatting.size) == f"634{DASH}718 kB"
    assert formatting.span([900, 2_000_000], formatting.size) == f"900 B{DASH}2.0 MB"
    assert [formatting.rate(90), formatting.rate(8972.6), formatting.giga(3.1e9)] == ["90.0", "8973", "3.10"]
    assert [counted(1, "trial"), counted(2, "trial"), counted(1000, "class", "classes")] == [
        "1 trial",
        "2 trials",
        "1,000 classes",
    ]


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the cells of a terminal table by the row's first one; the first of equal ones counts."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    return {row[0]: row[1:] for row in reversed(rows)}


def test_the_terminal_table_shows_scores_and_says_what_they_mean():
    text = terminal_table(make_results())
    assert lines_of(text)["lora"] == [
        *("1", "69.0 (62.4, 75.6)", "79.0 (72.4, 85.6)", "74.0 (67.4, 80.6)"),
        *("147.5K", "40 s", "1.21 GB"),
    ]
    assert "*" not in text
    assert "73.3 (71.9, 74.8) ≈" in text
    for words in (
        "Scores are test accuracy in percent, the mean over 3 seeds, and in parentheses the 95 % interval "
        "over seeds and test examples.\n",
        "Rank is 1 + the number of rows that are significantly better (t-test of paired differences with seeds",
        "≈ marks a score that is not significantly below the best of its column.\n",
        "\nWhat it costs\n",
    ):
        assert words in text


def test_costs_that_were_not_measured_are_a_dash():
    results = unmeasured(make_results(), "lora", "steps", "training_flops")
    table = cost_table(summary_rows(results))
    lora = dict(zip([column.header.replace("\n", " ") for column in table.columns], table.rows[0], strict=True))
    assert {name: str(cell) for name, cell in lora.items()} == {
        "method": "lora",
        "trainable parameters": "147.5K",
        "head parameters": f"11.2K{DASH}32.0K",
        "adapter file": f"634{DASH}718 kB",
        "training time": "40 s",
        "CPU time": "1.3 min",
        "time per step": DASH,
        "examples per second": "90.0",
        "tokens per second": "4500",
        "peak memory": "1.21 GB",
        "evaluation time": "4.0 s",
        "training GFLOPs": DASH,
        "inference GFLOPs": "3.00",
    }
    assert lora["time per step"].value is None
    assert str(cost_table(summary_rows(make_results())).rows[0][6]) == "0.2 s"


def test_one_run_that_shares_its_process_with_something_large_does_not_decide_the_memory():
    peaks = (9, 2, 3)
    results = [make_result("lora", seed=seed, **{"cost.peak_memory_bytes": peak}) for seed, peak in enumerate(peaks)]
    assert MEMORY.number(results) == 3


def test_what_took_no_step_has_no_rate():
    results = [
        dataclasses.replace(r, cost=dataclasses.replace(r.cost, steps=0, examples_per_second=0.0, train_seconds=0.0))
        if r.method.name == "linear"
        else r
        for r in make_results()
    ]
    rows = {row.label: row for row in summary_rows(results)}
    table = cost_table(list(rows.values()))
    column = [each.header for each in table.columns].index("examples\nper second")
    assert {str(cells[0]): str(cells[column]) for cells in table.rows} == {
        label: DASH if label == "linear" else "90.0" for label in rows
    }


def timed(seconds, cpu, threads=2, device="cpu", **changes):
    """Runs that trained for so many seconds each, in which the CPUs worked for so many."""
    changes |= {"cost.frozen_prefix_seconds": 0.0, "cost.threads": threads, "environment.device": device}
    return [
        make_result(seed=seed, **{"cost.train_seconds": wall, "cost.cpu_seconds": worked, **changes})
        for seed, (wall, worked) in enumerate(zip(seconds, cpu, strict=True))
    ]


@pytest.mark.parametrize(
    ("results", "late"),
    [
        (timed((50, 51, 98), (96, 97, 96)), [2]),  # alone it keeps both threads busy
        (timed((50, 51, 98), (52, 53, 99)), []),  # one thread alone, and more work in the last run
        (timed((50, 51), (30, 29), threads=1), [0, 1]),  # no thread of a CPU is idle by itself
        (timed((50, 51), (30, 29), device="cuda"), []),  # but one that waits for a GPU is
        (timed((50, 90), (30, 29), device="cuda"), [1]),
        (timed((0.1, 0.9), (0.1, 0.1), threads=1), []),  # nothing is told from a moment
        (timed((50, 60, 130), (None, None, None)), []),
        ([*timed((50,), (96,)), *timed((98,), (96,), dataset="typefaces")], []),  # other data may leave a thread idle
        ([*timed((50,), (96,)), *timed((98,), (96,), **{"environment.cpu": "an older one"})], []),
    ],
)
def test_a_run_that_other_jobs_held_up_is_marked(results, late):
    found = held_up(results)
    assert [result.seed for result in found] == late
    text = terminal_table(results)
    assert (f"(held up {len(late)}/{len(results)})" in text) == bool(late)


def test_the_cpu_time_stands_beside_the_training_time():
    table = cost_table(summary_rows(timed((50, 52), (96, 96))))
    at = [column.header for column in table.columns].index("training\ntime")
    assert table.columns[at + 1].header == "CPU\ntime"
    assert [str(cell) for cell in table.rows[0][at : at + 2]] == ["51 s", "1.6 min"]
    assert "CPU time is what all threads" in " ".join(meaning(timed((50,), (96,))))
    assert "CPU" not in " ".join(meaning(timed((50,), (None,))))


def test_costs_that_no_run_has_measured_have_no_column():
    headers = [column.header for column in cost_table(summary_rows(make_results())).columns]
    images = make_results(**{"cost.tokens_per_second": None})
    assert set(headers) - {column.header for column in cost_table(summary_rows(images)).columns} == {
        "tokens\nper second"
    }


@pytest.mark.parametrize(
    ("results", "says", "says_not"),
    [
        (
            make_results(seeds=1),
            [
                "test accuracy in percent, of one seed, and in parentheses",
                "interval over test examples.",
                f"Nothing can be said about differences between rows, hence no rank ({DASH}): fewer than 3 seeds",
            ],
            ["Rank is", "≈"],
        ),
        (
            make_results(**{"item_scores": ()}),
            ["interval over seeds.", "fewer than 6 seeds are shared, and there are no scores by example"],
            ["Rank is"],
        ),
        (
            make_results(seeds=1, **{"item_scores": ()}),
            ["of one seed, to which no interval can be given."],
            ["parentheses", "Rank is"],
        ),
        (make_results(scores={"lora": (0.7, 0.66, 0.71)}), ["interval over seeds and"], ["Rank is", "Nothing can"]),
    ],
    ids=["one seed", "no items", "neither", "one method"],
)
def test_the_terminal_says_what_cannot_be_said(results, says, says_not):
    text = terminal_table(results)
    assert [words for words in says if words not in text] == []
    assert [words for words in says_not if words in text] == []


def test_data_sets_without_items_are_said():
    mixed = [*make_results(["icons"]), *make_results(["typefaces"], **{"item_scores": ()})]
    text = terminal_table(mixed)
    assert "over seeds and test examples; over seeds alone on typefaces, where no scores by example" in text


def test_one_data_set_has_no_column_of_means():
    assert lines_of(terminal_table(make_results(["icons"])))["method"][:3] == ["rank", "icons", "trainable"]


def test_the_terminal_keeps_incomparable_results_apart():
    text = terminal_table([*make_results(), *make_results(protocol={**PROTOCOL, "epochs": 3})])
    assert len(re.findall(r"│ lora .*\(67.4, 80.6\)", text)) == 2
    assert re.search(r"\(not comparable with the first table: epochs (10 / 3|3 / 10)\)", text)


def test_the_order_of_results_does_not_matter():
    results = [*make_results(), *make_results(created="2026-02-01T00:00:00Z")]
    expected = terminal_table(results)
    for _ in range(3):
        random.shuffle(results)
        assert terminal_table(results) == expected


# The command.


def test_every_backbone_and_task_has_its_files(tmp_path, capsys):
    for backbone, task in (("vit", "fgvc"), ("clip", "fgvc"), ("vit", "vtab")):
        save_result(tmp_path / "r", make_result(**{"backbone.name": backbone, "task.name": task}))
    assert main([str(tmp_path / "r"), "--out", str(tmp_path / "out" / "deep")]) == 0
    names = sorted(path.name for path in (tmp_path / "out" / "deep").iterdir())
    pages = ("clip-fgvc", "vit-fgvc", "vit-vtab")
    ends = (".md", ".html", ".tex", ".csv", "-parameters.svg", "-time.svg", "-loss.svg")
    assert names == sorted(page + end for page in pages for end in ends)
    assert capsys.readouterr().out.count("wrote ") == len(names)


@pytest.mark.parametrize(
    ("formats", "ends"),
    [
        (["csv"], [".csv"]),
        (["tex", "html"], [".html", ".tex"]),
        (["md"], [".md", "-loss.svg", "-parameters.svg", "-time.svg"]),
    ],
)
def test_formats_can_be_chosen(tmp_path, formats, ends):
    assert set(build(tmp_path, make_results(), *formats)) == {f"vit-fgvc{end}" for end in ends}


def test_the_same_files_give_the_same_bytes(tmp_path):
    results = [*drawn_results({"a": 0.5, "b": 0.6}, {"icons": 30, "typefaces": 20}), *make_results(space=SPACE)]
    folders, processes = [tmp_path / "1", tmp_path / "2"], []
    for folder, written in zip(folders, (results, random.Random(0).sample(results, len(results))), strict=True):
        for result in written:
            save_result(folder / "leaderboards" / "results", result)
        environment = {**os.environ, "PYTHONHASHSEED": folder.name}
        processes.append(subprocess.Popen([sys.executable, "-m", "zipeft.leaderboard"], cwd=folder, env=environment))
        # A user's own look is in the folder of the second process only.
        (tmp_path / "2").mkdir(exist_ok=True)
        (tmp_path / "2" / "matplotlibrc").write_text("font.family: serif\nfigure.dpi: 33\n")
    assert [process.wait() for process in processes] == [0, 0]
    pages = [{path.name: path.read_bytes() for path in (f / "leaderboards").glob("vit-fgvc*.*")} for f in folders]
    assert pages[0] == pages[1]
    assert len(pages[0]) == 7
    assert not any(str(tmp_path).encode() in content for content in pages[0].values())


def test_trials_and_failures_make_no_rows(tmp_path):
    store = Store(tmp_path / "results")
    store.save(make_trial())
    store.save(make_failure(make_result(seed=7)))
    store.save(make_failure(make_trial(index=3)))
    page = build(tmp_path, [make_result()], "md")["vit-fgvc.md"]
    assert "1 method on icons, 1 seed;" in page
    assert "Runs that failed, and have no result:\n\n- **lora on icons**, seed 7: the loss is not finite\n" in page


def test_broken_files_are_left_out_with_a_warning(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "half.json").write_text('{"schema": 2, "id')
    edited = save_result(tmp_path / "results", make_result(seed=1))
    content = json.loads(edited.read_text())
    edited.write_text(json.dumps({**content, "seed": 2}))
    files = build(tmp_path, [make_result(score=0.9)], "md", "html")
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("zipeft: warning: ") and "(see zipeft validate)" in line for line in warnings)
    assert any("half.json: not a JSON file" in line for line in warnings)
    for end in ("md", "html"):
        assert (
            "2 result files could not be read and are left out; zipeft validate says why." in files[f"vit-fgvc.{end}"]
        )


def no_results(folder: Path) -> list[str]:
    folder.mkdir()
    return [str(folder)]


def only_trials(folder: Path) -> list[str]:
    Store(folder).save(make_trial())
    return [str(folder)]


def no_folder(folder: Path) -> list[str]:
    return [str(folder / "nowhere")]


def out_is_a_file(folder: Path) -> list[str]:
    save_result(folder, make_result())
    (folder / "taken").write_text("")
    return [str(folder), "--out", str(folder / "taken")]


def same_page(folder: Path) -> list[str]:
    for backbone, task in (("a-b", "c"), ("a", "b-c")):
        save_result(folder, make_result(**{"backbone.name": backbone, "task.name": task}))
    return [str(folder)]


def unknown_format(folder: Path) -> list[str]:
    return [str(folder), "--format", "pdf"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (no_results, "no valid result files (*.json) of runs in"),
        (only_trials, "no valid result files (*.json) of runs in"),
        (no_folder, "no such file or folder:"),
        (out_is_a_file, "cannot write"),
        (same_page, "two pages would be called a-b-c"),
        (unknown_format, "invalid choice: 'pdf'"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, monkeypatch, capsys, make, says):
    monkeypatch.chdir(tmp_path)
    assert main(make(tmp_path / "given")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("zipeft: error: ")
    assert captured.err.count("\n") == 1
    assert says in captured.err
    assert not list(tmp_path.rglob("*.md"))


def test_a_failed_write_keeps_the_old_page(tmp_path, monkeypatch):
    old = build(tmp_path, make_results(), "md", "csv")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main([str(tmp_path / "results"), "--out", str(tmp_path), "--format", "md", "csv"]) == 2
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == old


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as status:
        main(["--help"])
    assert status.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    assert "--format html" in said


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    path = save_result(tmp_path / "results", make_result())
    given = [str(path), str(tmp_path / "results"), str(path.parent)]
    assert main([*given, "--out", str(tmp_path), "--format", "md"]) == 0
    assert "superseded" not in (tmp_path / "vit-fgvc.md").read_text()


def test_the_files_may_be_moved(tmp_path):
    result = make_result()
    save_result(tmp_path / "a", result)
    shutil.move(result_path(tmp_path / "a", result), tmp_path / "renamed.json")
    assert main([str(tmp_path / "renamed.json"), "--out", str(tmp_path / "out"), "--format", "md"]) == 0
    assert f"[{result.id}](../renamed.json)" in (tmp_path / "out" / "vit-fgvc.md").read_text()


def test_regenerating_says_which_files_differ(capsys):
    before = {"a.md": "one\ntwo\n", "b.svg": "x", "same.tex": "z", "old.svg": "y"}
    after = {"a.md": "one\nthree\n", "b.svg": "\n".join(map(str, range(50))), "same.tex": "z", "new.csv": "w"}
    assert regenerate_leaderboards.report(before, after) == 1
    said = capsys.readouterr().out
    for words in ("-two\n+three\n", "... and", "a.md differs\n", "b.svg differs\n", "old.svg is left over\n"):
        assert words in said
    assert "new.csv is not committed\n4 files made again, 4 differ" in said.replace("old.svg is left over\n", "")
    assert regenerate_leaderboards.report(before, before) == 0
    assert {".md", ".html", ".tex", ".csv", ".svg"} == {*regenerate_leaderboards.ENDS}


def test_losses_are_shown_as_they_are_and_sorted_with_the_lowest_first():
    scores = {"loss": 2.3286, "unseen perplexity": 12.5, "unseen rouge_l": 0.114}
    results = [dataclasses.replace(result, test={**result.test, **scores}) for result in make_results()]
    table = other_table(summary_rows(results))
    columns = {column.header.split("(")[-1].rstrip(")"): column.first for column in table.columns[1:]}
    assert columns == {"loss": UP, "unseen perplexity": UP, "unseen rouge_l": DOWN}
    shown = {str(cell).split()[0] for cell in table.rows[0][1:]}
    assert shown == {"2.329", "12.500", "11.4"}
