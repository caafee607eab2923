"""A page as one HTML file that needs no other and no network."""

from __future__ import annotations

import base64
import re
from functools import cache
from typing import TYPE_CHECKING

from zipeft.leaderboard.page import Page
from zipeft.leaderboard.plots.style import COLOURS

if TYPE_CHECKING:
    from jinja2 import Template


def html(page: Page) -> str:
    """Return the page's text."""
    return _template().render(page=page, inline=inline, embedded=embedded, kind=lambda block: type(block).__name__)


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("zipeft.leaderboard.render")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")


def embedded(png: bytes) -> str:
    """Return an image as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def inline(svg: bytes, prefix: str) -> str:
    """Return an SVG file as a part of a page: its ids get a prefix, and its colours become the page's variables."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--plot-{name}, {colour})")
    return re.sub("^<svg ", '<svg aria-hidden="true" ', text)
