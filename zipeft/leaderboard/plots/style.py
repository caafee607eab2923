"""How plots look, and how they become files.

The same rows give the same SVG, byte for byte: text is drawn as paths of the font that ships with matplotlib, and the
user's matplotlib settings do not count.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER, INK, GREY, MUTED, RULE, ACCENT = "#ffffff", "#22262e", "#5b616b", "#8a8f98", "#d9dce1", "#0b6e99"
SERIES = ("#0a6d98", "#c2472f", "#2f8a57", "#8a4fa8", "#b07d10", "#c14d8a", "#5f7d22", "#6a6f79")
"""One colour a method, told apart by most colour-blind readers when neighbours; after the last come dashed lines."""

COLOURS = {
    "paper": PAPER,
    "ink": INK,
    "grey": GREY,
    "muted": MUTED,
    "rule": RULE,
    "accent": ACCENT,
    **{f"series-{number}": colour for number, colour in enumerate(SERIES, start=1)},
}
"""All colours in a plot by name: a page in the dark replaces each by another."""

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
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 11,
    "ytick.color": INK,
    "ytick.labelsize": 11,
}
DOTS = 72
"""Dots an inch: a figure is laid out in points."""


@contextlib.contextmanager
def plot_style() -> Iterator[None]:
    """Inside this context matplotlib draws as zipeft's plots look.

    It does not warn of names that its font lacks letters for, or that leave a plot no room: the page has the names.
    """
    import matplotlib
    from matplotlib import style

    # The salt is outside of what a style may set; without it the SVG's element ids are random.
    with (
        style.context(STYLE, after_reset=True),
        matplotlib.rc_context({"svg.hashsalt": "zipeft"}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def empty_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches, which keeps titles and labels clear of each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, hspace=0.08)
    figure = Figure(figsize=(width, height), dpi=DOTS, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def freeze(figure: Figure) -> None:
    """Lay a figure out for the last time: what is placed by hand next must find everything where it stays."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file."""
    buffer = io.BytesIO()
    with plot_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
