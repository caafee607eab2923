"""Labels beside the points of a plot: each takes the place where it covers least."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zipeft.leaderboard.plots.style import GREY, INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
DISTANCES = (11, 22, 34, 48)
FAR = 10
"""Distance in points from which a line leads to a label."""

ALIGNED = {1: ("left", "bottom"), 0: ("center", "center"), -1: ("right", "top")}


@dataclass(frozen=True)
class Point:
    """One method in a plot: cost, and mean and interval in percent, without an interval all three the same."""

    label: str
    x: float
    y: float
    low: float
    high: float
    frontier: bool


def label_points(ax: Axes, points: Sequence[Point], line: Sequence[tuple[float, float]]) -> None:
    """Label points; nothing in the figure may move any more. ``line`` has the corners of what labels must not hide."""
    taken = [_marks(ax, point) for point in points] + _treads(ax, line)
    for point in points:
        text = ax.annotate(
            point.label,
            (point.x, point.y),
            (0, 0),
            textcoords="offset points",
            fontsize=12,
            color=INK if point.frontier else GREY,
            fontweight="bold" if point.frontier else "normal",
            bbox={"boxstyle": "square,pad=0.05", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.85},
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


def _treads(ax: Axes, line: Sequence[tuple[float, float]]) -> list[Bbox]:
    """Return the boxes of a staircase's lines with some air, in dots."""
    from matplotlib.transforms import Bbox

    boxes = []
    for (x, y), (next_x, next_y) in itertools.pairwise(map(ax.transData.transform, line)):
        boxes += [Bbox.from_extents(x, y - 2, next_x, y + 2), Bbox.from_extents(next_x - 6, y, next_x + 6, next_y)]
    return boxes


def _marks(ax: Axes, point: Point) -> Bbox:
    """Return the box of a point with its interval, in dots."""
    from matplotlib.transforms import Bbox

    x, low = ax.transData.transform((point.x, point.low))
    _, high = ax.transData.transform((point.x, point.high))
    return Bbox.from_extents(x - 6, low - 6, x + 6, high + 6)


def _places(ax: Axes, point: Point) -> Iterator[tuple[int, int, float, float]]:
    """Yield directions and offsets in points for a label, best first. Above and below clear the interval."""
    marks, (_, middle) = _marks(ax, point), ax.transData.transform((point.x, point.y))
    bars = {1: marks.y1 - 6 - middle, 0: 0.0, -1: middle - marks.y0 - 6}
    for distance in DISTANCES:
        for x, y in DIRECTIONS:
            yield x, y, x * distance, y * (distance + bars[y] if x == 0 else distance / 2)


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
