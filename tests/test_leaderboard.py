"""The leaderboard: statistics, tables, pages and plots of results."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import pytest
from result_factory import PROTOCOL, make_result
from scipy import stats

from zipeft.leaderboard import comparison, main, plots
from zipeft.leaderboard import tables as report
from zipeft.leaderboard.comparison import sections, summary_rows
from zipeft.leaderboard.tables import DASH
from zipeft.results import result_path, save_result
from zipeft.task import PublishedTable

ICONS = {"linear": (0.40, 0.42, 0.41), "lora": (0.70, 0.66, 0.71), "zero_gated": (0.69, 0.68, 0.68)}
T_OF_TWO = 0.95 * (2 / (4 * 0.975 * 0.025)) ** 0.5
"""The t quantile at 0.975 for two degrees of freedom has a closed form."""
PARAMETERS = {"linear": 0, "lora": 147_456, "zero_gated": 46_152}


def make_results(datasets=("icons", "typefaces"), seeds=3, **changes):
    return [
        make_result(method, dataset, seed, score + 0.1 * offset, parameters=PARAMETERS[method], **changes)
        for method, scores in ICONS.items()
        for offset, dataset in enumerate(datasets)
        for seed, score in enumerate(scores[:seeds])
    ]


def verdicts(results):
    return {row.label: row.verdict for row in summary_rows(results)}


def build(tmp_path, results, plot=False) -> str:
    """Save results, run the command on them and return the page. Without ``plot`` nothing is drawn, to be quick."""
    for result in results:
        save_result(tmp_path / "results", result)
    drawing = contextlib.nullcontext() if plot else mock.patch.object(plots, "svg", return_value=b"<svg/>")
    with drawing:
        assert main([str(tmp_path / "results"), "--out", str(tmp_path)]) == 0
    return (tmp_path / "vit-fgvc.md").read_text()


def cells(page: str) -> dict[str, list[str]]:
    """Return the cells of every table row of a page by its first cell; the first of equal ones counts."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in reversed(rows)}


# Statistics.


def test_the_interval_is_students():
    # Mean 2, deviation 1, standard error 1/sqrt(3).
    estimate = comparison.estimate([1.0, 2.0, 3.0])
    assert estimate.mean == pytest.approx(2)
    assert estimate.half_width == pytest.approx(T_OF_TWO / 3**0.5, rel=1e-9)
    values = [0.61, 0.64, 0.6, 0.655, 0.62]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    estimate = comparison.estimate(values)
    assert (estimate.mean - estimate.half_width, estimate.mean + estimate.half_width) == pytest.approx((low, high))
    assert comparison.estimate([0.5]) == comparison.Estimate(0.5, None, 1)
    assert comparison.estimate([0.5, 0.5]).half_width == 0


def test_the_mean_is_over_data_sets_for_each_seed():
    row = summary_rows([make_result(dataset="a", seed=s, score=s / 10) for s in (1, 2, 3)]
                       + [make_result(dataset="b", seed=s, score=s / 5) for s in (2, 3, 4)])[0]  # fmt: skip
    assert row.by_seed == pytest.approx({2: 0.3, 3: 0.45})
    assert row.mean.mean == pytest.approx(0.375)
    assert row.mean.half_width == pytest.approx(12.706204736174694 * 0.075, rel=1e-9)  # t of one degree of freedom
    assert {name: score.seeds for name, score in row.scores.items()} == {"a": 3, "b": 3}


def test_a_tie_is_what_a_paired_test_cannot_tell_apart():
    best = dict(enumerate((0.70, 0.72, 0.71, 0.75)))
    rng = random.Random(0)
    seen = set()
    for _ in range(50):
        gap = rng.choice((0.0, 0.01, 0.03))
        other = {seed: score - abs(rng.gauss(gap, 0.01)) for seed, score in best.items()}
        p = stats.ttest_rel(list(best.values()), list(other.values())).pvalue
        assert comparison.compare(best, other) == (comparison.WORSE if p < 0.05 else comparison.TIED)
        seen.add(p < 0.05)
    assert seen == {True, False}


def test_a_paired_test_pairs_by_seed_and_needs_three():
    best = {0: 0.5, 1: 0.6, 2: 0.7}
    assert comparison.compare(best, {2: 0.69, 0: 0.491, 1: 0.5895}) == comparison.WORSE
    assert comparison.compare(best, {0: 0.69, 2: 0.491, 1: 0.5895}) == comparison.TIED
    assert comparison.compare(best, {0: 0.1, 1: 0.1, 3: 0.1}) == comparison.UNKNOWN
    assert comparison.compare(best, {0: 0.51, 1: 0.6101, 2: 0.71}) == comparison.TIED  # better where both ran


@pytest.mark.parametrize(("gap", "verdict"), [(0.0, comparison.TIED), (0.1, comparison.WORSE)])
def test_constant_differences_need_no_test(gap, verdict):
    best = {0: 0.5, 1: 0.6, 2: 0.7}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert comparison.compare(best, {seed: score - gap for seed, score in best.items()}) == verdict


def test_rows_are_ranked_by_their_mean():
    rows = summary_rows(make_results())
    assert [row.label for row in rows] == ["lora", "zero_gated", "linear"]
    assert [row.verdict for row in rows] == [comparison.BEST, comparison.TIED, comparison.WORSE]


def test_settings_that_differ_make_rows_of_their_own():
    long = make_result("zero_gated", settings={"length": 50, "rate": 0.1})
    short = make_result("zero_gated", settings={"length": 10, "rate": 0.1})
    other = make_result("lora", settings={"rank": 8})
    labels = {row.label for row in summary_rows([long, short, other])}
    assert labels == {"zero_gated (length=50)", "zero_gated (length=10)", "lora"}
    lacking = make_result("zero_gated", settings={"rate": 0.1})
    assert "zero_gated (length=unset)" in {row.label for row in summary_rows([long, lacking])}


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
        make_results(**{"task.settings": {"image_size": 56}}),
        make_results(**{"backbone.checkpoint": "other"}),
        make_results(**{"version": 99}),
    ]
    found = sections(result for group in variants for result in group)
    assert len(found) == len(variants)
    assert {len(section.results) for section in found} == {len(variants[0])}
    for a, b in combinations(found, 2):
        assert comparison.section_differences(a, b)
    assert comparison.section_differences(found[0], found[0]) == []


def test_a_changed_data_set_starts_a_section_of_its_own():
    changed = {"task.checksum": "ef" * 32, "created": "2026-02-01T00:00:00Z"}
    new_icons = make_results(datasets=["icons"], **changed)
    newest, oldest = sections([*make_results(), *new_icons])
    assert {(r.task.dataset, r.task.checksum[:2]) for r in newest.results} == {("icons", "ef"), ("typefaces", "cd")}
    assert {(r.task.dataset, r.task.checksum[:2]) for r in oldest.results} == {("icons", "cd")}
    assert comparison.section_differences(newest, oldest) == ["dataset icons checksum efefefef / cdcdcdcd"]


# Numbers and words.


def test_numbers_are_written_for_people():
    counts = {0: "0", 930: "930", 46_092: "46.1K", 999_949: "999.9K", 999_960: "1.00M", 22_060_000: "22.06M"}
    assert {value: report.count(value) for value in counts} == counts
    assert report.count(6_738_415_616) == "6.74B"
    sizes = {999: "999 B", 184_368: "184 kB", 999_600: "1.0 MB", 88_240_000: "88.2 MB", 1_210_000_000: "1.21 GB"}
    assert {value: report.size(value) for value in sizes} == sizes
    assert report.size(5e12) == "5000.00 GB"
    times = {0.42: "0.4 s", 9.96: "10 s", 38: "38 s", 59.6: "1.0 min", 126: "2.1 min", 3597.5: "1.0 h", 5400: "1.5 h"}
    assert {value: report.duration(value) for value in times} == times
    assert report.span([1000, 1000], report.count) == "1.0K"
    assert report.span([634_000, 718_000], report.size) == f"634{DASH}718 kB"
    assert report.span([900, 2_000_000], report.size) == f"900 B{DASH}2.0 MB"


def test_the_terminal_table_shows_scores_and_says_what_they_mean():
    text = report.terminal_table(make_results())
    lora = next(line for line in text.splitlines() if "lora" in line)
    half = T_OF_TWO * stats.sem([70, 66, 71])
    assert [cell.strip() for cell in lora.split("│")[1:-1]] == [
        "lora",
        f"69.0 ± {half:.1f}",
        f"79.0 ± {half:.1f}",
        f"74.0 ± {half:.1f}",
        "147.5K",
        f"11.2K{DASH}32.0K",
        f"634{DASH}718 kB",
        "40 s",
        "1.21 GB",
    ]
    assert "*" not in text
    assert "73.3 ± 1.4 ≈" in text
    interval = "mean over seeds ± half the width of its 95 % Student t interval (3 seeds)"
    assert text.splitlines()[-2:] == [
        f"Scores are test accuracy in percent: {interval}.",
        "≈ marks a mean that is not significantly below the best one (paired t-test over shared seeds, 5 % level).",
    ]


def test_one_seed_has_no_interval_and_says_so():
    text = report.terminal_table(make_results(seeds=1))
    assert "±" not in text
    assert "from one seed: no interval can be given" in text
    assert "the difference from the best mean for zero_gated and linear: fewer than 3 seeds shared" in text
    assert "significantly" not in text
    assert "≈" not in text


def test_a_single_method_is_compared_with_nothing():
    text = report.terminal_table([result for result in make_results() if result.method.name == "lora"])
    assert "t-test" not in text


def test_the_terminal_keeps_incomparable_results_apart():
    text = report.terminal_table([*make_results(), *make_results(protocol={**PROTOCOL, "epochs": 3})])
    assert text.count("│ lora") == 2
    assert re.search(r"\(not comparable with the first table: epochs (10 / 3|3 / 10)\)", text)


# Pages.


def test_a_page_has_the_table_and_its_words(tmp_path):
    page = build(tmp_path, make_results())
    rows = cells(page)
    assert rows["lora"][0] == "**69.0 ± 6.6**"
    assert rows["lora"][2] == "**74.0 ± 6.6**"
    assert rows["zero_gated"][2] == "73.3 ± 1.4 ≈"
    assert rows["linear"][2:4] == ["46.0 ± 2.5", "0"]
    assert rows["method"][:3] == ["icons", "typefaces", "mean"]
    for words in (
        "Backbone: vit, checkpoint focus_small,",
        "22.06M parameters, source: carrier pack 0.1.1",
        "quick preset, epochs 10, batch_size 64, optimizer AdamW",
        "Seeds 0, 1 and 2.",
        "- **icons**: 83 classes; 779 training, 100 validation and 4 test examples",
        "What was taken of typefaces.",
        "95 % Student t interval (3 seeds)",
        "![Scores against parameters](vit-fgvc.svg)",
        "python 3.11.4, torch 2.14.1; cpu, A CPU, 2 cores: 18 runs",
        "    python -m zipeft.leaderboard\n",
    ):
        assert words in page
    assert "## Results\n" in page
    assert "superseded" not in page


def test_links_lead_to_the_result_files(tmp_path):
    results = make_results()
    page = build(tmp_path, [*results, make_result("a (b)|c", "x y")])
    links = re.findall(r"\[([0-9a-f]{16})\]\(([^)]+)\)", page)
    assert len(links) == len(results) + 1
    from urllib.parse import unquote

    for run, link in links:
        assert (tmp_path / unquote(link)).name.endswith(f"{run}.json")
        assert (tmp_path / unquote(link)).is_file()


def test_a_method_without_a_data_set_is_below_and_not_ranked(tmp_path):
    page = build(tmp_path, [*make_results(), make_result("prompt", "icons", 0, 0.99)])
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in lines[2:6]] == ["lora", "zero_gated", "linear", "prompt"]
    assert cells(page)["prompt"][:3] == ["**99.0**", DASH, DASH]
    assert "Below the ranked rows, without a mean: prompt (no typefaces)." in page
    assert "(1 to 3 seeds; one seed has no interval)" in page


def test_seeds_that_a_row_lacks_are_said(tmp_path):
    extra = [make_result("full", dataset, 0, 0.5) for dataset in ("icons", "typefaces")]
    page = build(tmp_path, [*make_results(), *extra])
    assert "Seeds 0, 1 and 2 (full has 0 on all data sets)." in page
    assert "Nothing can be said about the difference from the best mean for full: fewer than 3 seeds" in page


def test_incomparable_results_are_sections_with_their_difference(tmp_path):
    few = [make_result("lora", seed=9, score=0.99, **{"task.settings": {"image_size": 56}})]
    page = build(tmp_path, [*make_results(), *few], plot=True)
    first, second = page.index("## Results 1 of 2"), page.index("## Results 2 of 2")
    said = "Not comparable with Results 1 of 2, and not ranked with it: image_size 84 / 56."
    assert first < second < page.index(said)
    assert "99.0" not in page[first:second]
    titles = plot_texts(tmp_path / "vit-fgvc.svg")
    assert {"vit on fgvc, results 1 of 2", "vit on fgvc, results 2 of 2"} <= titles


def test_superseded_results_are_counted(tmp_path):
    for folder, score, created in (("new", 0.9, "2026-02-02T00:00:00Z"), ("old", 0.1, "2026-01-01T00:00:00Z")):
        save_result(tmp_path / folder, make_result(score=score, created=created))
    assert main([str(tmp_path / "old"), str(tmp_path / "new"), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "vit-fgvc.md").read_text()
    assert cells(page)["lora"][0] == "**90.0**"
    assert "Results superseded by newer ones of the same run: 1." in page
    assert "(new/vit-fgvc/" in page
    assert "(old/vit-fgvc/" not in page


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    path = save_result(tmp_path / "results", make_result())
    assert main([str(path), str(tmp_path / "results"), str(path.parent), "--out", str(tmp_path)]) == 0
    assert "superseded" not in (tmp_path / "vit-fgvc.md").read_text()


def test_hardware_that_differs_is_said(tmp_path):
    page = build(tmp_path, [make_result(), make_result(seed=1, **{"environment.cpu": "Another CPU"})])
    assert "Times and memory were measured on 2 kinds of hardware" in page


def test_metrics_that_differ_are_named_in_the_header(tmp_path):
    scores = {"scores.test": {"f1": 0.3}, "scores.validation": {"f1": 0.3}, "task.metric": "f1"}
    page = build(tmp_path, [make_result(), make_result(dataset="typefaces", **scores)])
    assert cells(page)["method"][:2] == ["icons (accuracy)", "typefaces (f1)"]


def test_markdown_in_names_and_notes_stays_text(tmp_path):
    odd = make_result("a|b*", dataset="<i>", **{"task.note": "one |\n# two <script>", "method.settings": {"x": "`|`"}})
    page = build(tmp_path, [odd])
    assert "a\\|b\\*" in page
    assert "<script" not in page.replace("\\<script", "")
    assert "\n# two" not in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:3]}) == 1


def test_published_numbers_are_apart_and_say_so(tmp_path, monkeypatch):
    published = PublishedTable("Five sets", "Someone 2024, Table 1.", ["CUB", "Dogs"], {"VPT | deep": ["88.5", "90.2"]})
    registry = pytest.importorskip("zipeft.registry")

    class Plugin:
        pass

    Plugin.published = (published,)
    monkeypatch.setattr(registry.tasks, "get", lambda name: Plugin)
    page = build(tmp_path, make_results())
    heading = "## Published elsewhere, on other data and another backbone: not comparable with the rows above\n"
    assert page.index("## Results") < page.index(heading) < page.index("**Five sets**. Source: Someone 2024, Table 1.")
    assert "| VPT \\| deep | 88.5  | 90.2   |" in page


def test_an_unknown_task_has_a_page_without_published_numbers(tmp_path):
    save_result(tmp_path, make_result(**{"task.name": "nobodys_task"}))
    assert main([str(tmp_path), "--out", str(tmp_path)]) == 0
    page = (tmp_path / "vit-nobodys_task.md").read_text()
    assert "the task plug-in nobodys_task cannot be loaded here" in page
    assert "Published elsewhere" not in page


def test_every_backbone_and_task_has_its_page(tmp_path, capsys):
    for backbone, task in (("vit", "fgvc"), ("clip", "fgvc"), ("vit", "vtab")):
        save_result(tmp_path / "r", make_result(**{"backbone.name": backbone, "task.name": task}))
    assert main([str(tmp_path / "r"), "--out", str(tmp_path / "out" / "deep")]) == 0
    names = sorted(path.name for path in (tmp_path / "out" / "deep").iterdir())
    pages = ("clip-fgvc", "vit-fgvc", "vit-vtab")
    assert names == sorted(f"{name}.{kind}" for name in pages for kind in ("md", "svg"))
    assert capsys.readouterr().out.count("wrote ") == 6


# The same files give the same bytes.


def test_the_same_files_give_the_same_bytes(tmp_path):
    results = [*make_results(), *make_results(seeds=2, protocol={**PROTOCOL, "epochs": 3})]
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
    pages = [{path.name: path.read_bytes() for path in (f / "leaderboards").glob("vit-fgvc.*")} for f in folders]
    assert pages[0] == pages[1]
    assert set(pages[0]) == {"vit-fgvc.md", "vit-fgvc.svg"}
    assert not any(str(tmp_path).encode() in content for content in pages[0].values())


def test_the_order_of_results_does_not_matter():
    results = [*make_results(), *make_results(created="2026-02-01T00:00:00Z")]
    expected = report.terminal_table(results)
    for _ in range(5):
        random.shuffle(results)
        assert report.terminal_table(results) == expected


# Mistakes end in one line and status 2.


def broken(folder: Path) -> list[str]:
    save_result(folder, make_result())
    (folder / "half.json").write_text('{"schema": 1, "id')
    return [str(folder)]


def no_results(folder: Path) -> list[str]:
    folder.mkdir()
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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (broken, "half.json: not a JSON file"),
        (no_results, "no result files (*.json) in"),
        (no_folder, "no such file or folder:"),
        (out_is_a_file, "cannot write"),
        (same_page, "two pages would be called a-b-c"),
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
    build(tmp_path, make_results())
    old = {path: path.read_bytes() for path in tmp_path.glob("vit-fgvc.*")}

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main([str(tmp_path / "results"), "--out", str(tmp_path)]) == 2
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == old


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as status:
        main(["--help"])
    assert status.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_the_files_may_be_moved(tmp_path):
    result = make_result()
    save_result(tmp_path / "a", result)
    shutil.move(result_path(tmp_path / "a", result), tmp_path / "renamed.json")
    assert main([str(tmp_path / "renamed.json"), "--out", str(tmp_path / "out")]) == 0
    assert f"[{result.id}](../renamed.json)" in (tmp_path / "out" / "vit-fgvc.md").read_text()


# Plots.


def plot_texts(path: Path) -> set[str]:
    """Return the texts of an SVG: matplotlib writes each as a comment before the paths that draw it."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    tree = ElementTree.parse(path, parser)
    return {element.text.strip() for element in tree.iter() if element.tag is ElementTree.Comment}


def test_the_plot_is_an_svg_of_paths(tmp_path):
    build(tmp_path, make_results(), plot=True)
    svg = (tmp_path / "vit-fgvc.svg").read_text()
    assert {"lora", "zero_gated", "linear", "vit on fgvc", "10K", "0"} <= plot_texts(tmp_path / "vit-fgvc.svg")
    assert "<text" not in svg
    assert "date" not in svg


def test_the_font_ships_with_matplotlib():
    import matplotlib
    from matplotlib import font_manager

    with plots._style():
        for weight in ("normal", "bold"):
            path = font_manager.findfont(font_manager.FontProperties(weight=weight), fallback_to_default=False)
            assert Path(matplotlib.get_data_path()) in Path(path).parents
            assert "DejaVuSans" in Path(path).name


CROWD = {
    "linear": (0, 0.40),
    "full": (22_060_000, 0.62),
    "lora": (147_456, 0.70),
    "bitfit": (82_944, 0.66),
    "prompt": (3_840, 0.45),
    "deep_prompt": (46_080, 0.622),
    "zero_gated": (46_152, 0.627),
    "zero_gated_random": (46_152, 0.605),
}


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("draw", range(3))
def test_labels_cover_neither_each_other_nor_points(noise, draw):
    rng = random.Random(draw)
    results = [
        make_result(method, seed=seed, score=score + rng.gauss(0, noise), parameters=parameters)
        for method, (parameters, score) in CROWD.items()
        for seed in range(3)
    ]
    figure = plots.figure([plots.Panel("crowd", summary_rows(results))])
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_text() in CROWD]
    assert {text.get_text() for text in texts} == set(CROWD)
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    points = [axes.transData.transform(text.xy) for text in texts]
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert all(axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1 for box in boxes)


def test_points_at_the_same_place_are_drawn_side_by_side():
    rows = summary_rows([make_result(name, seed=s, score=0.5, parameters=46_000) for name in "abc" for s in range(3)])
    xs = [point.x for point in plots._points(rows)]
    assert len(set(xs)) == 3
    assert min(xs) > 46_000 * 0.9
    assert max(xs) < 46_000 * 1.1


@pytest.mark.parametrize(
    "results",
    [
        [make_result("linear", parameters=0)],
        [make_result(parameters=10)],
        [make_result("a", "icons"), make_result("b", "typefaces")],
    ],
    ids=["only zero parameters", "one point", "no method on all data sets"],
)
def test_small_pages_have_a_plot_too(tmp_path, results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(tmp_path, results, plot=True)
    texts = plot_texts(tmp_path / "vit-fgvc.svg")
    assert ("no method has results on all data sets" in texts) == (len(results) == 2)
