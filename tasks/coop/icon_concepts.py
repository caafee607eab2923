"""Icons by concept: which concepts pretraining never sees, and drawings and names of all others to train on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zipeft.sources import package_archive
from zipeft.tasks.fgvc.icons import ARCHIVE, TEST_FONTS, Glyph, concept_of, draw, read_glyphs

if TYPE_CHECKING:
    import numpy as np

HELD_OUT = (
    "arrow-down", "arrow-left", "arrow-right", "arrow-up", "bell", "book", "bookmark", "briefcase", "calendar",
    "check", "circle", "clock", "cloud", "compass", "download", "eye", "file", "flag", "folder", "folder-open",
    "globe", "heart", "key", "lightbulb", "link", "lock", "map-pin", "pause", "pencil", "phone", "play", "plus",
    "question", "rss", "share", "star", "star-half", "stop", "tag", "user", "wrench",
)  # fmt: skip
"""The concepts that few-shot tasks classify and that no pretraining may see, by any font.

Of the usable concepts (``zipeft.tasks.fgvc.icons.usable``) they are those with at least ``MIN_TRAIN`` drawings from
fonts other than ``TEST_FONTS`` and ``MIN_TEST`` from those, whose every word stands in the names of ``MIN_WORD`` or
more other drawings: a word that pretraining never read cannot be recognised from its text.
"""

MIN_TRAIN, MIN_TEST, MIN_WORD = 8, 2, 2


class Drawings(NamedTuple):
    """n drawings: ``pixels`` (n, size, size), the grey of black on white in 0 to 255; ``fonts`` (n,); ``concepts``
    (n,)."""

    pixels: np.ndarray
    fonts: np.ndarray
    concepts: np.ndarray

    def at(self, rows: np.ndarray) -> Drawings:
        """Return some of the drawings; ``rows`` are indices, or a mask."""
        return Drawings(*(column[rows] for column in self))


def words_of(concept: str) -> str:
    """Return a concept as words: "arrow-down" is "arrow down"."""
    return concept.replace("-", " ").replace("_", " ")


def read_drawings(image_size: int) -> Drawings:
    """Return the drawings of all concepts that a font other than ``TEST_FONTS`` draws; they are drawn once, and kept.

    They are drawn as ``zipeft.tasks.fgvc.icons.draw`` draws.
    """
    import numpy as np

    path = package_archive.derived(ARCHIVE, f"concepts_{image_size}px.npz", lambda target: _write(target, image_size))
    with np.load(path) as columns:
        return Drawings(columns["pixels"], columns["fonts"], columns["concepts"])


def _write(target: Path, image_size: int) -> None:
    import numpy as np

    groups: dict[str, dict[tuple[str, int], Glyph]] = defaultdict(dict)
    for glyph in read_glyphs():
        groups[concept_of(glyph.name)].setdefault((glyph.font, glyph.codepoint), glyph)
    drawings = [
        drawing
        for concept, group in groups.items()
        if any(font not in TEST_FONTS for font, _ in group)
        for drawing in draw(concept, list(group.values()), image_size)
    ]
    np.savez_compressed(
        target,
        pixels=np.stack([drawing.pixels for drawing in drawings]),
        fonts=np.array([drawing.name.partition(":")[0] for drawing in drawings]),
        concepts=np.array([drawing.label for drawing in drawings]),
    )


class Split(NamedTuple):
    """Drawings to train on, drawings of trained concepts by unseen fonts, and drawings of unseen concepts by those."""

    train: Drawings
    unseen_fonts: Drawings
    unseen_concepts: Drawings


def split(drawings: Drawings, fonts: Collection[str], concepts: Collection[str]) -> Split:
    """Keep ``fonts`` and ``concepts`` wholly out of training.

    A font may have one drawing under two names. So a drawing that is, pixel by pixel, one of an unseen concept goes
    out of training, whatever its name; and a drawing by an unseen font that is one of training's is not counted.
    """
    import numpy as np

    marks = np.array([pixels.tobytes() for pixels in drawings.pixels], dtype=object)
    by_font, by_concept = np.isin(drawings.fonts, list(fonts)), np.isin(drawings.concepts, list(concepts))
    hidden = set(marks[by_concept])
    train = ~by_font & ~by_concept & np.array([mark not in hidden for mark in marks])
    trained, seen = set(drawings.concepts[train]), set(marks[train])
    known = np.array([concept in trained for concept in drawings.concepts])
    new = np.array([mark not in seen for mark in marks])
    return Split(*(drawings.at(rows) for rows in (train, by_font & known & new, by_font & by_concept)))
