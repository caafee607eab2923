"""Which questions of a test split a page shows, with their images made small."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from zipeft.api.showcase import Shown
from zipeft.sources.splits import choose

if TYPE_CHECKING:
    from PIL.Image import Image

    from zipeft.api.data import Split

EXAMPLES = 12
SIDE = 128
"""Pixels of the longer side of an image, at most."""


def shown_of(test: Split) -> tuple[Shown, ...]:
    """Return a dozen questions on images, drawn by the groups that they count for and by nothing that is answered."""
    on_images = [index for index, question in enumerate(test.examples) if question.picture]
    chosen = choose([test.targets[index].groups for index in on_images], EXAMPLES, seed=0)
    return tuple(_shown(test, on_images[at]) for at in chosen)


def _shown(test: Split, index: int) -> Shown:
    question, answer = test.examples[index], test.targets[index]
    return Shown(index, question.question, tuple(answer.options), answer.index, _png(question.picture.read()))


def _png(image: Image) -> bytes:
    image = image.copy()
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
