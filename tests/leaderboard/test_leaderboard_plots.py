"""The leaderboard's plots."""

from __future__ import annotations

import dataclasses
import random
import warnings
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.leaderboard_factory import build, make_results
from support.result_factory import PROTOCOL, make_result
from zipeft.leaderboard.plots import curves, scatter, style
from zipeft.leaderboard.ranking import summary_rows
from zipeft.results import Epoch

ENDS = ("parameters", "time", "loss")


def plot_texts(svg: str) -> set[str]:
    """Return the texts of an SVG: matplotlib writes each as a comment before the paths that draw it."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    tree = ElementTree.fromstring(svg, parser)
    return {element.text.strip() for element in tree.iter() if element.tag is ElementTree.Comment}


def test_plots_are_svgs_of_paths(tmp_path):
    files = build(tmp_path, make_results(), "md")
    texts = {end: plot_texts(files[f"vit-fgvc-{end}.svg"]) for end in ENDS}
    assert {"lora", "zero_gated", "linear", "vit on fgvc", "10K", "0"} <= texts["parameters"]
    assert {"lora", "zero_gated", "linear", "vit on fgvc", "30 s", "1 min", "training time of a run"} <= texts["time"]
    assert {"lora", "zero_gated", "linear", "icons", "typefaces", "epoch", "training loss"} <= texts["loss"]
    for end in ENDS:
        svg = files[f"vit-fgvc-{end}.svg"]
        assert "<text" not in svg
        assert "date" not in svg
        assert set(style.COLOURS.values()) >= {"#" + part[:6] for part in svg.split(": #")[1:]}


def test_incomparable_results_are_panels_of_their_own(tmp_path):
    files = build(tmp_path, [*make_results(), *make_results(seeds=1, protocol={**PROTOCOL, "epochs": 3})], "md")
    titles = {"vit on fgvc, results 1 of 2", "vit on fgvc, results 2 of 2"}
    assert titles <= plot_texts(files["vit-fgvc-parameters.svg"])
    assert {"Results 1 of 2: icons", "Results 2 of 2: typefaces"} <= plot_texts(files["vit-fgvc-loss.svg"])


def test_the_font_ships_with_matplotlib():
    import matplotlib
    from matplotlib import font_manager

    with style.plot_style():
        for weight in ("normal", "bold"):
            path = font_manager.findfont(font_manager.FontProperties(weight=weight), fallback_to_default=False)
            assert Path(matplotlib.get_data_path()) in Path(path).parents
            assert "DejaVuSans" in Path(path).name


# Scores against costs.

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
@pytest.mark.parametrize("draw", [0, *(pytest.param(draw, marks=pytest.mark.slow) for draw in (1, 2))])
@pytest.mark.parametrize("axis", scatter.AXES.values(), ids=scatter.AXES)
def test_labels_cover_neither_each_other_nor_points(noise, draw, axis):
    rng = random.Random(draw)
    results = [
        make_result(
            method,
            seed=seed,
            score=score + rng.gauss(0, noise),
            parameters=parameters,
            **{"cost.train_seconds": 2 + parameters**0.3},
        )
        for method, (parameters, score) in CROWD.items()
        for seed in range(3)
    ]
    figure = scatter.scatter([scatter.Panel("crowd", summary_rows(results))], axis)
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
    xs = [point.x for point in scatter.points_of(rows, scatter.AXES["parameters"])]
    assert len(set(xs)) == 3
    assert min(xs) > 46_000 * 0.9
    assert max(xs) < 46_000 * 1.1


def test_points_have_the_intervals_of_the_table_and_a_frontier():
    points = scatter.points_of(summary_rows(make_results()), scatter.AXES["parameters"])
    assert [(point.label, point.frontier) for point in points] == [
        ("linear", True),
        ("zero_gated", True),
        ("lora", True),
    ]
    assert (points[2].low, points[2].y, points[2].high) == pytest.approx((74 - 6.57241, 74, 74 + 6.57241))
    rows = summary_rows([make_result("slow", score=0.1, parameters=500_000), *make_results(["icons"])])
    labels = {point.label: point.frontier for point in scatter.points_of(rows, scatter.AXES["parameters"])}
    assert labels["slow"] is False


@pytest.mark.parametrize(
    "results",
    [
        [make_result("linear", parameters=0)],
        [make_result(parameters=10)],
        [make_result("a", "icons"), make_result("b", "typefaces")],
        [make_result(history=(Epoch(1, 0.0, {}), Epoch(2, 0.0, {})))],
        [make_result(history=(Epoch(2, 1.0, {}),))],
    ],
    ids=["only zero parameters", "one point", "no method on all data sets", "no loss", "one epoch"],
)
def test_small_pages_have_plots_too(tmp_path, results):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = build(tmp_path, results, "md")
    texts = plot_texts(files["vit-fgvc-parameters.svg"])
    assert ("no method has results on all data sets" in texts) == (len(results) == 2)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.05, 20, ["50 ms", "0.1 s", "0.2 s", "0.5 s", "1 s", "2 s", "5 s", "10 s", "20 s"]),
        (1, 7200, ["1 s", "10 s", "1 min", "10 min", "1 h"]),
        (15, 150, ["20 s", "30 s", "1 min", "2 min"]),
    ],
)
def test_times_have_round_ticks(low, high, shown):
    axis = scatter.AXES["time"]
    assert [axis.show(tick) for tick in axis.ticks(low, high)] == shown


# Training loss.


def test_names_that_the_font_lacks_do_not_warn(tmp_path, recwarn):
    scores = {"猫" * 90: (0.4, 0.5, 0.6), "lora": (0.5, 0.6, 0.7)}
    build(tmp_path, make_results(["数据一", "数据二"], scores=scores))
    assert not list(map(str, recwarn))


def test_curves_are_means_and_ranges_over_seeds():
    histories = [(Epoch(1, 4.0, {}), Epoch(2, 1.0, {})), (Epoch(1, 5.0, {}), Epoch(2, 2.0, {}), Epoch(3, 1.0, {}))]
    results = [make_result(seed=seed, history=history) for seed, history in enumerate(histories)]
    (row,) = summary_rows(results)
    curve = curves._curve(row, "icons", 0)
    assert curve.epochs == [1, 2]  # those that both seeds have
    assert (curve.mean, curve.low, curve.high) == ([4.5, 1.5], [4.0, 1.0], [5.0, 2.0])


def test_few_epochs_have_a_point_for_each_part_of_one():
    history = (Epoch(1, 4.0, {}, (5.0, 3.0)), Epoch(2, 1.0, {}, (1.5, 0.5)))
    (row,) = summary_rows([make_result(seed=seed, history=history) for seed in (0, 1)])
    curve = curves._curve(row, "icons", 0)
    assert (curve.epochs, curve.mean) == ([0.5, 1, 1.5, 2], [5.0, 3.0, 1.5, 0.5])
    many = tuple(Epoch(epoch, 1 / epoch, {}, (1.0, 0.5)) for epoch in range(1, 10))
    (row,) = summary_rows([make_result(history=many)])
    assert curves._curve(row, "icons", 0).epochs == list(range(1, 10))


def test_a_method_keeps_its_colour_from_panel_to_panel_and_methods_differ():
    names = [f"method{index:02}" for index in range(12)]
    results = [make_result(name, dataset) for name in names for dataset in ("icons", "typefaces")]
    results = [result for result in results if (result.method.name, result.task.dataset) != (names[0], "icons")]
    panels = list(curves._panels("", summary_rows(results)))
    looks = [{curve.label: (curve.color, curve.line) for curve in drawn} for _, drawn in panels]
    assert [title for title, _ in panels] == ["icons", "typefaces"]
    assert len(set(looks[1].values())) == 12
    assert all(looks[1][label] == look for label, look in looks[0].items())


def test_labels_of_curves_do_not_overlap():
    losses = {name: 0.5 + 0.001 * index for index, name in enumerate("abcdefgh")} | {"far": 0.01}
    results = [
        dataclasses.replace(make_result(name), history=(Epoch(1, 5.0, {}), Epoch(2, loss, {})))
        for name, loss in losses.items()
    ]
    figure = curves.loss_figure([("", summary_rows(results))])
    texts = sorted(figure.axes[0].texts, key=lambda text: text.get_window_extent().y0)
    assert [text.get_text() for text in texts] == ["far", *"abcdefgh"]
    heights = [text.get_window_extent().y0 for text in texts]
    assert all(b - a >= curves.GAP - 0.5 for a, b in pairwise(heights))
    assert all(figure.bbox.x0 <= t.get_window_extent().x0 and t.get_window_extent().x1 <= figure.bbox.x1 for t in texts)
