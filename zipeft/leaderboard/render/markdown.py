"""A page as markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import singledispatch
from urllib.parse import quote

from zipeft.leaderboard.blocks import Block, Bullets, Cell, Commands, Figure, Gallery, Heading, Paragraph, Table
from zipeft.leaderboard.page import Page
from zipeft.leaderboard.tables import tabulated


def markdown(page: Page) -> str:
    """Return the page's text."""
    return document(page.title, page.blocks)


def document(title: str, blocks: Iterable[Block]) -> str:
    """Return the text of blocks under a title."""
    return "\n\n".join([f"# {escape(title)}", *map(_shown, blocks)]) + "\n"


def escape(text: str) -> str:
    """Return text that markdown shows as it is, on one line, also where it begins like a heading or a list."""
    return re.sub(r"^(\d*)([#+.)-])(?=[#\s]|$)", r"\1\\\2", _inline(text))


def _inline(text: str) -> str:
    """Return text that markdown shows as it is behind other text."""
    # An underscore inside of a word is no mark.
    return re.sub(r"([\\`*|<>\[\]&~]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))


@singledispatch
def _shown(block: object) -> str:
    raise TypeError(f"no markdown for {type(block).__name__}")


@_shown.register
def _(heading: Heading) -> str:
    return f"{'#' * heading.level} {escape(heading.text)}"


@_shown.register
def _(paragraph: Paragraph) -> str:
    return _led(paragraph.lead, paragraph.text)


@_shown.register
def _(bullets: Bullets) -> str:
    return "\n".join(f"- {_led(lead, text)}" for lead, text in bullets.items)


@_shown.register
def _(commands: Commands) -> str:
    return "\n".join(f"    {line}" for line in commands.lines)


@_shown.register
def _(figure: Figure) -> str:
    return f"![{escape(figure.alt)}]({quote(figure.file)})\n\n{escape(figure.caption)}"


@_shown.register
def _(table: Table) -> str:
    return tabulated(table, "pipe", _cell, escape)


@_shown.register
def _(gallery: Gallery) -> str:
    return _shown(gallery.table)


def _led(lead: str, text: str) -> str:
    return f"**{_inline(lead)}**{_inline(text)}" if lead else escape(text)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.link:
        text = f"[{text}]({cell.link})"
    return f"{f'**{text}**' if cell.best else text} {escape(cell.detail)}".rstrip()
