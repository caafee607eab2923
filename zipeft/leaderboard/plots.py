"""The plot of accuracy against trainable parameters.

The same rows give the same SVG, byte for byte: text is drawn as paths of the font that ships with matplotlib, and the
user's matplotlib settings do not count.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING

from zipeft.leaderboard.comparison import Row
from zipeft.leaderboard.tables import count, listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

ACCENT, MUTED, INK, RULE, GREY = "#0b6e99", "#8a8f98", "#22262e", "#d9dce1", "#5b616b"
STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.labelsize": 12,
    "font.family": "DejaVu Sans",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 11,
    "ytick.color": INK,
    "ytick.labelsize": 11,
}


@dataclass(frozen=True)
class Panel:
    """One table's rows to plot, under a title. Rows without a mean have no place in it."""

    title: str
    rows: Sequence[Row]


def svg(panels: Sequence[Panel]) -> bytes:
    """Return the panels, one above the other, as an SVG file."""
    buffer = io.BytesIO()
    with _style():
        figure(panels).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@contextlib.contextmanager
def _style() -> Iterator[None]:
    import matplotlib
    from matplotlib import style

    # The salt is outside of what a style may set; without it the SVG's element ids are random.
    with style.context(STYLE, after_reset=True), matplotlib.rc_context({"svg.hashsalt": "zipeft"}):
        yield


def figure(panels: Sequence[Panel]) -> Figure:
    """Return the panels as a matplotlib figure, laid out for 72 dots an inch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with _style():
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, hspace=0.08)
        fig = Figure(figsize=(9, 5.4 * len(panels)), dpi=72, layout=layout)
        FigureCanvasAgg(fig)
        axes = fig.subplots(len(panels), squeeze=False)[:, 0]
        points = [_draw(ax, panel) for ax, panel in zip(axes, panels, strict=True)]
        fig.draw_without_rendering()
        fig.set_layout_engine("none")  # labels go where there is room, so nothing may move any more
        for ax, places in zip(axes, points, strict=True):
            _label(ax, places)
    return fig


@dataclass(frozen=True)
class Point:
    """One method in the plot: parameters, mean and half the interval in percent."""

    label: str
    x: float
    y: float
    half_width: float
    frontier: bool


def _points(rows: Sequence[Row]) -> list[Point]:
    ranked = [(row.label, fmean(row.costs("trainable_parameters")), row.mean) for row in rows if row.mean]
    points = []
    for label, x, mean in ranked:
        # The same mean at the same number beats nothing: both points are on the frontier.
        beaten = any(
            other.mean >= mean.mean and other_x <= x and (other.mean, other_x) != (mean.mean, x)
            for _, other_x, other in ranked
        )
        points.append(Point(label, x, 100 * mean.mean, 100 * (mean.half_width or 0), not beaten))
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


def _draw(ax: Axes, panel: Panel) -> list[Point]:
    points = _points(panel.rows)
    ax.set_title(panel.title)
    ax.set_xlabel("trainable parameters (head apart)")
    ax.set_ylabel(_ylabel(panel.rows))
    if not points:
        ax.set(xticks=[], yticks=[])
        ax.text(0.5, 0.5, "no method has results on all data sets", ha="center", transform=ax.transAxes)
        return points
    for point in points:
        color = ACCENT if point.frontier else MUTED
        bar = {"capsize": 4, "elinewidth": 1.5, "capthick": 1.5} if point.half_width else {"elinewidth": 0}
        ax.errorbar(
            point.x,
            point.y,
            point.half_width,
            fmt="o",
            color=color,
            markersize=10,
            mec="white",
            zorder=4 if point.frontier else 3,
            **bar,
        )
    ax.step(*_staircase(points), where="post", color=ACCENT, alpha=0.35, linewidth=1.5, zorder=2)
    ax.grid(axis="y", color=RULE, linewidth=0.8)
    ax.set_axisbelow(True)
    _scale(ax, points)
    return points


def _staircase(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return the corners of the line that shows the best mean up to any number of parameters."""
    frontier = [point for point in points if point.frontier]
    return [point.x for point in frontier] + [points[-1].x], [point.y for point in frontier] + [frontier[-1].y]


def _ylabel(rows: Sequence[Row]) -> str:
    results = [result for row in rows for result in row.results]
    metrics = sorted({result.task.metric for result in results})
    names = listing(sorted({result.task.dataset for result in results}))
    over = f"mean over {names}" if len(names) < 40 else "mean over data sets"
    return f"test {' or '.join(metrics)} (%), {over}"


def _scale(ax: Axes, points: Sequence[Point]) -> None:
    """Set axes that have room for labels. Zero parameters have their own place left of a broken logarithmic axis."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min(point.y - point.half_width for point in points)
    high = max(point.y + point.half_width for point in points)
    room = max(0.08 * (high - low), 0.5)
    ax.set_ylim(low - room, high + room)
    zero = [0.0] if points[0].x == 0 else []
    positive = [point.x for point in points if point.x > 0]
    start, end = (min(positive), max(positive)) if positive else (1.0, 1.0)
    first, last = math.floor(math.log10(start)), math.floor(math.log10(3 * end))
    decades = [10.0**power for power in range(first, last + 1)] if positive else []
    ax.set_xscale("symlog", linthresh=10.0**first, linscale=0.75)
    ax.set_xlim(-0.35 * 10.0**first if zero else start / 3, 3 * end)
    ax.xaxis.set_major_locator(FixedLocator([*zero, *decades]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value).replace(".00", "").replace(".0", "")))
    if zero and decades:
        _break(ax, decades[0] / 2)


def _break(ax: Axes, x: float) -> None:
    """Mark on the axis that the logarithmic scale does not reach zero."""
    place = ax.get_xaxis_transform()
    ax.plot([x], [0], marker="s", markersize=8, color="white", transform=place, clip_on=False, zorder=10)
    ax.annotate("//", (x, 0), xycoords=place, ha="center", va="center", color=MUTED, fontsize=12, zorder=11)


# Labels: each takes the place beside its point where it covers least.

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
DISTANCES = (11, 22, 34, 48)
FAR = 10
"""Distance in points from which a line leads to a label."""

ALIGNED = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


def _label(ax: Axes, points: Sequence[Point]) -> None:
    taken = [_marks(ax, point) for point in points] + (_treads(ax, points) if points else [])
    for point in points:
        text = ax.annotate(
            point.label,
            (point.x, point.y),
            (0, 0),
            textcoords="offset points",
            fontsize=12,
            color=INK if point.frontier else GREY,
            fontweight="bold" if point.frontier else "normal",
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            zorder=5,
        )
        places = list(_places(ax, point))
        costs = [rank + 3 * _covered(_move(text, place), taken, ax.bbox) for rank, place in enumerate(places)]
        chosen = places[costs.index(min(costs))]
        taken.append(_move(text, chosen).padded(3, 1))
        _lead(ax, _marks(ax, point), taken[-1])


def _lead(ax: Axes, marks: Bbox, label: Bbox) -> None:
    """Draw a fine line from a point to its label, if the label is far from it and from its interval."""
    gap = math.hypot(max(label.x0 - marks.x1, marks.x0 - label.x1, 0), max(label.y0 - marks.y1, marks.y0 - label.y1, 0))
    if gap < FAR:
        return
    x, y = (marks.x0 + marks.x1) / 2, (marks.y0 + marks.y1) / 2
    near = (min(max(x, label.x0), label.x1), min(max(y, label.y0), label.y1))
    ends = ax.transData.inverted().transform([(x, y), near])
    ax.plot(ends[:, 0], ends[:, 1], color=GREY, linewidth=0.8, zorder=1)


def _treads(ax: Axes, points: Sequence[Point]) -> list[Bbox]:
    """Return the boxes of the staircase's lines with some air, in dots."""
    from matplotlib.transforms import Bbox

    corners = ax.transData.transform(list(zip(*_staircase(points), strict=True)))
    boxes = []
    for (x, y), (next_x, next_y) in itertools.pairwise(corners):
        boxes += [Bbox.from_extents(x, y - 2, next_x, y + 2), Bbox.from_extents(next_x - 6, y, next_x + 6, next_y)]
    return boxes


def _marks(ax: Axes, point: Point) -> Bbox:
    """Return the box of a point with its interval, in dots."""
    from matplotlib.transforms import Bbox

    x, low = ax.transData.transform((point.x, point.y - point.half_width))
    _, high = ax.transData.transform((point.x, point.y + point.half_width))
    return Bbox.from_extents(x - 6, low - 6, x + 6, high + 6)


def _places(ax: Axes, point: Point) -> Iterator[tuple[int, int, float, float]]:
    """Yield directions and offsets in points for a label, best first. Above and below clear the interval."""
    bar = _marks(ax, point).height / 2 - 6
    for distance in DISTANCES:
        for x, y in DIRECTIONS:
            yield x, y, x * distance, y * (distance if x == 0 else distance / 2) + (y * bar if x == 0 else 0)


def _move(text: Annotation, place: tuple[int, int, float, float]) -> Bbox:
    """Put a label in a place and return the box that it then has, in dots."""
    x, y, *offset = place
    text.set(position=offset, ha=ALIGNED[x][0], va=ALIGNED[y][1])
    return text.get_window_extent()


def _covered(box: Bbox, taken: Sequence[Bbox], room: Bbox) -> float:
    """Return the area of a label that covers something or is out of the axes, in square dots."""
    import numpy as np

    x0, y0, x1, y1 = np.array([other.extents for other in [*taken, room]]).T
    overlaps = (np.minimum(x1, box.x1) - np.maximum(x0, box.x0)).clip(0)
    overlaps *= (np.minimum(y1, box.y1) - np.maximum(y0, box.y0)).clip(0)
    return float(overlaps[:-1].sum() + box.width * box.height - overlaps[-1])
