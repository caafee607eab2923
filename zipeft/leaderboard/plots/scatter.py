"""Scores against what they cost: a point a method, and the line of those that no other beats at the same cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zipeft.formatting import count, duration, listing
from zipeft.leaderboard.costs import PARAMETERS, TRAINING_TIME, Quantity
from zipeft.leaderboard.machines import reference
from zipeft.leaderboard.plots.labels import Point, label_points
from zipeft.leaderboard.plots.style import ACCENT, MUTED, PAPER, RULE, empty_figure, freeze, plot_style
from zipeft.leaderboard.ranking import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000)
BETWEEN = (0.02, 0.05, 0.2, 0.5, 2, 5, 20, 30, 120, 300, 1200, 1800, 7200, 18_000, 72_000, 180_000)


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from below ``low`` to ``high``."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)]


def round_times(low: float, high: float) -> list[float]:
    """Return seconds from ``low`` to ``high`` that are round in seconds, minutes or hours; more where few would be."""
    few = [time for time in SECONDS if low <= time <= high]
    return few if len(few) > 3 else sorted([*few, *(time for time in BETWEEN if low <= time <= high)])


@dataclass(frozen=True)
class Axis:
    """A cost to plot scores against: ``words`` name it in "no more ...", ``ticks`` are made of the axis's ends."""

    quantity: Quantity
    label: str
    words: str
    show: Callable[[float], str]
    ticks: Callable[[float, float], list[float]]


def _short_count(value: float) -> str:
    return count(value).replace(".00", "").replace(".0", "")


def _short_duration(seconds: float) -> str:
    return duration(seconds).replace(".0 ", " ")


AXES = {
    "parameters": Axis(
        PARAMETERS, "trainable parameters (head apart)", "trainable parameters, the head apart", _short_count, decades
    ),
    "time": Axis(TRAINING_TIME, "training time of a run", "training time", _short_duration, round_times),
}
"""By the end of the plot's file name."""


@dataclass(frozen=True)
class Panel:
    """One table's rows to plot, under a title. Rows without a mean have no place in it."""

    title: str
    rows: Sequence[Row]


def scatter(panels: Sequence[Panel], axis: Axis) -> Figure:
    """Return the panels, one above the other, as a figure."""
    with plot_style():
        figure = empty_figure(9, 5.4 * len(panels))
        axes = figure.subplots(len(panels), squeeze=False)[:, 0]
        drawn = [_draw(ax, panel, axis) for ax, panel in zip(axes, panels, strict=True)]
        freeze(figure)
        for ax, points in zip(axes, drawn, strict=True):
            label_points(ax, points, staircase(points))
    return figure


def caption(axis: Axis) -> str:
    """Return what a figure of ``scatter`` shows."""
    return (
        "Means over data sets with their 95 % intervals. Coloured: no other method has at least the same mean with no "
        f"more {axis.words}. Points with nearly the same x are drawn side by side."
    )


def points_of(rows: Sequence[Row], axis: Axis) -> list[Point]:
    """Return a point for every row that has a mean, from left to right."""
    machine, quantity = reference([result for row in rows for result in row.results]), axis.quantity
    ranked = [
        (row.label, x, row.mean)
        for row in rows
        if row.mean and (x := quantity.number(quantity.comparable(row.results, machine))) is not None
    ]
    points = []
    for label, x, score in ranked:
        # The same mean at the same cost beats nothing: both points are on the frontier.
        beaten = any(
            other.mean >= score.mean and other_x <= x and (other.mean, other_x) != (score.mean, x)
            for _, other_x, other in ranked
        )
        low, high = (score.mean, score.mean) if score.low is None or score.high is None else (score.low, score.high)
        points.append(Point(label, x, 100 * score.mean, 100 * low, 100 * high, not beaten))
    return _side_by_side(sorted(points, key=lambda point: (point.x, point.y, point.label)))


def _side_by_side(points: Sequence[Point]) -> list[Point]:
    """Return points, sorted by x, moved apart where they would hide each other's intervals."""
    positive = [point.x for point in points if point.x > 0]
    if not positive:
        return list(points)
    step = 0.015 * (math.log10(max(positive) / min(positive)) + 1)  # about a point's width, in decades
    groups: list[list[Point]] = []
    for point in points:
        near = groups and groups[-1][-1].x > 0 and math.log10(point.x / groups[-1][-1].x) < step
        groups[-1].append(point) if near else groups.append([point])
    moved = []
    for group in groups:
        for index, point in enumerate(group):
            middle = math.prod(other.x for other in group) ** (1 / len(group))
            moved.append(replace(point, x=middle * 10 ** (step * (index - (len(group) - 1) / 2))))
    return moved


def staircase(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return the corners of the line that shows the best mean up to any cost; none without points."""
    frontier = [point for point in points if point.frontier]
    return [(point.x, point.y) for point in frontier] + [(points[-1].x, point.y) for point in frontier[-1:]]


def _draw(ax: Axes, panel: Panel, axis: Axis) -> list[Point]:
    points = points_of(panel.rows, axis)
    ax.set_title(panel.title)
    ax.set_xlabel(axis.label)
    ax.set_ylabel(_ylabel(panel.rows))
    if not points:
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, "no method has results on all data sets", ha="center", transform=ax.transAxes)
        return points
    for point in points:
        color, zorder = (ACCENT, 4) if point.frontier else (MUTED, 3)
        bar = {"capsize": 4, "elinewidth": 1.5, "capthick": 1.5} if point.low < point.high else {"elinewidth": 0}
        lengths = [[max(point.y - point.low, 0)], [max(point.high - point.y, 0)]]
        ax.errorbar(point.x, point.y, lengths, fmt="o", color=color, markersize=10, mec=PAPER, zorder=zorder, **bar)
    ax.step(*zip(*staircase(points), strict=True), where="post", color=ACCENT, alpha=0.35, linewidth=1.5, zorder=2)
    ax.grid(axis="y", color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    _scale(ax, points, axis)
    return points


def _ylabel(rows: Sequence[Row]) -> str:
    results = [result for row in rows for result in row.results]
    metrics = sorted({result.task.metric for result in results})
    datasets = sorted({result.task.dataset for result in results})
    names = listing(datasets)
    over = f"mean over {names}" if len(datasets) > 1 else names
    return f"test {' or '.join(metrics)} (%), {over if len(names) < 24 else 'mean over data sets'}"


def _scale(ax: Axes, points: Sequence[Point], axis: Axis) -> None:
    """Set axes that have room for labels. Zero has its own place left of a broken logarithmic axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = min(point.low for point in points), max(point.high for point in points)
    room = max(0.08 * (high - low), 0.5)
    ax.set_ylim(low - room, high + room)
    zero = [0.0] if points[0].x == 0 else []
    positive = [point.x for point in points if point.x > 0]
    start, end = (min(positive), max(positive)) if positive else (1.0, 1.0)
    first = 10.0 ** math.floor(math.log10(start))
    left, right = start / 10**0.5, end * 10**0.5  # a decade at least, so that one of its powers is in it
    ticks = axis.ticks(start if zero else left, right) if positive else []
    ax.set_xscale("symlog", linthresh=first, linscale=0.75)
    ax.set_xlim(-0.35 * first if zero else left, right)
    ax.xaxis.set_major_locator(FixedLocator([*zero, *ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis.show(value)))
    if zero and ticks:
        _break(ax, first / 2)


def _break(ax: Axes, x: float) -> None:
    """Mark on the axis that the logarithmic scale does not reach zero."""
    place = ax.get_xaxis_transform()
    ax.plot([x], [0], marker="s", markersize=8, color=PAPER, transform=place, clip_on=False, zorder=10)
    ax.annotate("//", (x, 0), xycoords=place, ha="center", va="center", color=MUTED, fontsize=12, zorder=11)
