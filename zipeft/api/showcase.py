"""Test examples that a page may show beside the answers of methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Shown:
    """A test example with an image: its ``index`` in the test split, what is asked, the options, which of them is
    ``right``, and the image as PNG."""

    index: int
    asked: str
    options: tuple[str, ...]
    right: int
    image: bytes


class Showcase(NamedTuple):
    """Some test examples of a data set. ``credit`` says whose the images are, and by which licence they are shown."""

    credit: str
    examples: tuple[Shown, ...]
