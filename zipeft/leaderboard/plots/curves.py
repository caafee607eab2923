"""Training loss as training goes on: a panel a data set, a line a method, with the range over its seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from zipeft.leaderboard.plots.style import DOTS, RULE, SERIES, empty_figure, freeze, plot_style
from zipeft.leaderboard.ranking import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    from zipeft.results import Epoch

LINES = ("-", "--", ":", "-.")
GAP = 14
"""Least distance between two labels, in points: the height of a line of text."""

FEW_EPOCHS = 5
"""A curve of fewer has a point for each part of an epoch whose loss is known."""

CAPTION = (
    "Mean training loss of every epoch, as it was while the epoch went on; where epochs are few, of every part of one. "
    "Lines are means over seeds, bands their range. Methods stand at the right, by their last loss."
)


@dataclass(frozen=True)
class Curve:
    """The loss of one row on one data set: mean, lowest and highest over seeds. ``epochs`` may be parts of one."""

    label: str
    color: str
    line: str
    epochs: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def loss_figure(titled: Sequence[tuple[str, Sequence[Row]]]) -> Figure:
    """Return the losses of tables' rows as a figure; the title of a table comes before that of its data set."""
    panels = [panel for title, rows in titled for panel in _panels(title, rows)]
    lines = max(len(curves) for _, curves in panels)
    columns = min(2, len(panels))
    down = math.ceil(len(panels) / columns)
    with plot_style():
        figure = empty_figure(1 + 4.5 * columns, max(5.2, 1.6 + GAP / DOTS * lines) * down)
        axes = list(figure.subplots(down, columns, squeeze=False).flat)
        labels = [_draw(ax, *panel) for ax, panel in zip(axes, panels, strict=False)]
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        freeze(figure)
        for ax, texts in zip(axes, labels, strict=False):
            _spread(ax, texts)
    return figure


def _panels(title: str, rows: Sequence[Row]) -> Iterator[tuple[str, list[Curve]]]:
    """Yield title and curves of every data set. A row keeps its colour from panel to panel."""
    looks = {row.label: index for index, row in enumerate(sorted(rows, key=lambda row: row.label))}
    for dataset in sorted({result.task.dataset for row in rows for result in row.results}):
        curves = [_curve(row, dataset, looks[row.label]) for row in rows if dataset in row.scores]
        yield f"{title}{dataset}", curves


def _curve(row: Row, dataset: str, look: int) -> Curve:
    """Return a row's curve, over the epochs that all of its seeds have."""
    runs = [_losses(result.history) for result in row.results if result.task.dataset == dataset]
    epochs = sorted(set.intersection(*map(set, runs)))
    losses = [[run[epoch] for run in runs] for epoch in epochs]
    color, line = SERIES[look % len(SERIES)], LINES[look // len(SERIES) % len(LINES)]
    return Curve(row.label, color, line, epochs, *([f(values) for values in losses] for f in (fmean, min, max)))


def _losses(history: Sequence[Epoch]) -> dict[float, float]:
    """Return the losses by the epochs, or parts of epochs, at whose ends they stand."""
    if len(history) >= FEW_EPOCHS or not all(epoch.losses for epoch in history):
        return {epoch.epoch: epoch.train_loss for epoch in history}
    return {
        epoch.epoch - 1 + (part + 1) / len(epoch.losses): loss
        for epoch in history
        for part, loss in enumerate(epoch.losses)
    }


def _draw(ax: Axes, title: str, curves: Sequence[Curve]) -> list[Annotation]:
    """Draw one panel and return its labels, which overlap as yet."""
    from matplotlib.ticker import MaxNLocator

    last = max((curve.epochs[-1] for curve in curves if curve.epochs), default=1)
    ax.set_title(title)
    ax.set_xlabel("epoch")
    ax.set_ylabel("training loss")
    ax.xaxis.set_major_locator(MaxNLocator(integer=last > 1, nbins=8 if last > 1 else 5))
    ax.grid(axis="y", color=RULE, linewidth=0.8)
    labels = [_draw_curve(ax, curve) for curve in curves if curve.epochs]
    if all(loss > 0 for curve in curves for loss in curve.low):
        _logarithmic(ax)
    return labels


def _logarithmic(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.set_yscale("log")
    low, high = ax.get_ylim()
    ticks = (1, 1.5, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 1000 * low else (1,)
    ax.yaxis.set_major_locator(LogLocator(subs=ticks))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _draw_curve(ax: Axes, curve: Curve) -> Annotation:
    ax.fill_between(curve.epochs, curve.low, curve.high, color=curve.color, alpha=0.15, linewidth=0)
    dots = "o" if len(curve.epochs) < 20 else ""
    ax.plot(curve.epochs, curve.mean, curve.line, color=curve.color, linewidth=2, marker=dots, markersize=4)
    return ax.annotate(
        curve.label,
        (curve.epochs[-1], curve.mean[-1]),
        (10, 0),
        textcoords="offset points",
        va="center",
        fontsize=11,
        color=curve.color,
    )


def _spread(ax: Axes, labels: Sequence[Annotation]) -> None:
    """Move labels up or down until none overlaps the next, as little as may be, and inside the axes."""
    height = {label: float(ax.transData.transform(label.xy)[1]) for label in labels}
    order = sorted(labels, key=lambda label: (height[label], label.get_text()))
    places = _apart([height[label] for label in order], ax.bbox.y0, ax.bbox.y1)
    for label, place in zip(order, places, strict=True):
        label.set_position((10, place - height[label]))


def _apart(heights: Sequence[float], low: float, high: float) -> list[float]:
    """Return sorted heights at least GAP apart, moved as little as may be (least squares), between low and high."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    if not heights:
        return []
    steps = GAP * np.arange(len(heights))
    moved = isotonic_regression(np.asarray(heights) - steps).x
    return list(np.clip(moved, low, max(low, high - steps[-1])) + steps)
