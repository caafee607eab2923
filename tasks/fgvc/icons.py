"""Icons: drawings of one concept by seven icon fonts; the test drawings come from fonts that training never saw."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zipeft.api.data import Data
from zipeft.sources import package_archive
from zipeft.sources.splits import choose_classes, cut
from zipeft.tasks.fgvc.drawing import Drawing, drawn_data, drawn_once, load_font

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

ARCHIVE = package_archive.PackageArchive(
    name="qtawesome",
    version="1.4.2",
    kind="wheel",
    sha256="dbf08524428fa2df73918ce362153254cd44f089380576d84bfaad8f40eece45",
    size=2_593_557,
    licence="MIT; each font under an open licence of its own",
)

FONTS = {
    "Codicon": ("codicon", "0.0.36"),
    "Elusive": ("elusiveicons-webfont", "2.0"),
    "Font Awesome 6 Regular": ("fontawesome6-regular-webfont", "6.7.2"),
    "Font Awesome 6 Solid": ("fontawesome6-solid-webfont", "6.7.2"),
    "Material Design 6": ("materialdesignicons6-webfont", "6.9.96"),
    "Phosphor": ("phosphor", "1.3.0"),
    "Remix": ("remixicon", "2.5.0"),
}
"""Name: file name and version in the carrier. One version of each, and no brands: a logo is the same in every font."""

TEST_FONTS = ("Material Design 6", "Remix")

MIN_DRAWINGS, MIN_FONTS = 10, 3
"""What makes a name a concept: so many drawings, from so many fonts."""

MIN_TRAIN = 4
"""A concept has at least so many training drawings, validation included, and at least one test drawing."""

VALIDATION = 0.2
"""The part of each concept's training drawings that is validation."""

EM = 512
"""Pixels of a font's em when a glyph is drawn, before it is averaged down: its hinting plays no part."""

EXTENT = 0.8
"""The longer side of a drawing, as a part of the image's side."""

RENDERING = 1
"""Part of the name of what is kept: another number for every change of how glyphs are drawn."""

STYLE = re.compile(r"(-(outline|line|fill|bold|light|thin|duotone|solid|alt))+$")


class Glyph(NamedTuple):
    font: str
    name: str
    codepoint: int


def load(image_size: int, classes: float, split_seed: int) -> Data:
    """Return the icons, drawn at ``image_size``. ``classes`` (0: all) as in ``zipeft.sources.splits.choose_classes``.

    Test has the drawings of ``TEST_FONTS``; validation is cut from the others by concept, with ``split_seed``.
    """
    concepts = usable(concepts_of(read_glyphs()))
    chosen = choose_classes(list(concepts), classes, split_seed)
    drawings = drawings_of({concept: concepts[concept] for concept in chosen}, image_size)
    seen = [drawing for drawing in drawings if _font_of(drawing) not in TEST_FONTS]
    stay, taken = cut([drawing.label for drawing in seen], VALIDATION, split_seed)
    splits = {
        "train": [seen[index] for index in stay],
        "validation": [seen[index] for index in taken],
        "test": [drawing for drawing in drawings if _font_of(drawing) in TEST_FONTS],
    }
    part = f"{len(chosen)} of {len(concepts)} concepts (seed {split_seed})"
    return drawn_data(
        "icons",
        splits,
        carrier=ARCHIVE,
        settings={"image_size": image_size, "classes": classes, "split_seed": split_seed},
        note=f"{part if len(chosen) < len(concepts) else f'all {len(concepts)} concepts'}, {image_size} px; "
        f"test drawings from {' and '.join(TEST_FONTS)}, fonts that training never saw",
    )


def _font_of(drawing: Drawing) -> str:
    return drawing.name.partition(":")[0]


def read_glyphs() -> list[Glyph]:
    """Return the named glyphs of all fonts, training fonts first."""
    glyphs = []
    for font in sorted(FONTS, key=lambda font: (font in TEST_FONTS, font)):
        stem, version = FONTS[font]
        charmap = package_archive.member(ARCHIVE, f"qtawesome/fonts/{stem}-charmap-{version}.json")
        codepoints = json.loads(charmap.read_text("utf-8"))
        glyphs += [Glyph(font, name, int(code, 16)) for name, code in sorted(codepoints.items())]
    return glyphs


def concept_of(name: str) -> str:
    """Return a glyph's name without a trailing number and without the suffixes that name a style."""
    return STYLE.sub("", re.sub(r"-\d+$", "", name))


def concepts_of(glyphs: Sequence[Glyph]) -> dict[str, list[Glyph]]:
    """Return the concepts (``MIN_DRAWINGS``, ``MIN_FONTS``) and their glyphs, each under one name only."""
    groups: dict[str, dict[tuple[str, int], Glyph]] = defaultdict(dict)
    for glyph in glyphs:
        groups[concept_of(glyph.name)].setdefault((glyph.font, glyph.codepoint), glyph)
    return {
        concept: list(group.values())
        for concept, group in groups.items()
        if len(group) >= MIN_DRAWINGS and len({font for font, _ in group}) >= MIN_FONTS
    }


def usable(concepts: Mapping[str, list[Glyph]]) -> dict[str, list[Glyph]]:
    """Leave out the concepts that ``TEST_FONTS`` do not draw or that have fewer than ``MIN_TRAIN`` other drawings."""
    tests = {concept: sum(glyph.font in TEST_FONTS for glyph in group) for concept, group in concepts.items()}
    return {concept: group for concept, group in concepts.items() if 0 < tests[concept] <= len(group) - MIN_TRAIN}


def drawings_of(concepts: Mapping[str, Sequence[Glyph]], image_size: int) -> list[Drawing]:
    """Return the drawings of concepts, each concept's as ``draw`` draws them; they are drawn once for a cache."""

    def all_of_them() -> list[Drawing]:
        return [drawing for concept, glyphs in concepts.items() for drawing in draw(concept, glyphs, image_size)]

    return drawn_once(ARCHIVE, "icons", image_size, [RENDERING, list(concepts.items())], all_of_them)


def draw(concept: str, glyphs: Sequence[Glyph], image_size: int) -> list[Drawing]:
    """Draw the glyphs of a concept, black on white, at equal extent and in the middle.

    Of drawings that are the same, pixel by pixel, only the first is kept: a test drawing that is also in training goes.
    """
    marks: dict[tuple[tuple[int, int], bytes], tuple[str, Image]] = {}
    for glyph in glyphs:
        mark = _ink(glyph)
        marks.setdefault((mark.size, mark.tobytes()), (f"{glyph.font}:{glyph.name}", mark))
    return [Drawing(name, concept, _fitted(mark, image_size)) for name, mark in marks.values()]


def _ink(glyph: Glyph) -> Image:
    """Return a glyph in white on black ("L"), large, cropped to its ink."""
    import PIL.Image
    from PIL import ImageDraw

    stem, version = FONTS[glyph.font]
    font = load_font(package_archive.member(ARCHIVE, f"qtawesome/fonts/{stem}-{version}.ttf"), EM)
    left, top, right, bottom = map(int, font.getbbox(chr(glyph.codepoint)))
    image = PIL.Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), chr(glyph.codepoint), fill=255, font=font)
    return image.crop(image.getbbox())


def _fitted(mark: Image, image_size: int) -> np.ndarray:
    import numpy as np
    import PIL.Image

    scale = EXTENT * image_size / max(mark.size)
    mark = mark.resize([max(round(scale * length), 1) for length in mark.size], PIL.Image.Resampling.BOX)
    square = PIL.Image.new("L", (image_size, image_size), "white")
    square.paste("black", ((image_size - mark.width) // 2, (image_size - mark.height) // 2), mark)
    return np.asarray(square)
