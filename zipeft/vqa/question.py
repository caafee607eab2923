"""A question on an image, with its options."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from zipeft.api.data import Picture
from zipeft.images.reading import read_image


class VisualQuestion(NamedTuple):
    """What a model is asked: a question with its options, in their order, and perhaps a picture.

    ``context`` is what a question says beforehand ("" for nothing); ``name`` says which question of the data set it is.
    """

    question: str
    options: tuple[str, ...]
    picture: Picture | None = None
    context: str = ""
    name: str = ""


def picture_of(path: Path, name: str) -> Picture:
    """Return the picture in a file, which is decoded when it is read."""
    return Picture(name, lambda: read_image(path))
