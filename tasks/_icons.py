"""Icons: drawings of one concept by seven icon fonts; the test drawings come from fonts that training never saw."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zipeft.tasks._drawing import Drawing, drawn_data, ink, load_font, on_white

from zipeft import carriers
from zipeft.splits import choose_classes
from zipeft.task import Data

CARRIER = carriers.Carrier(
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

TEST_FONTS = ("Codicon", "Remix")

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

STYLE = re.compile(r"(-(outline|line|fill|bold|light|thin|duotone|solid|alt))+$")


class Glyph(NamedTuple):
    font: str
    name: str
    codepoint: int


def load(image_size: int, classes: int, split_seed: int) -> Data:
    """Return the icons, drawn at ``image_size``. ``classes`` (0: all) is as in ``zipeft.splits.choose_classes``."""
    concepts = usable(concepts_of(read_glyphs()))
    chosen = choose_classes(list(concepts), classes, split_seed)
    drawings = [drawing for concept in chosen for drawing in draw(concept, concepts[concept], image_size)]
    test = [drawing for drawing in drawings if _font(drawing) in TEST_FONTS]
    part = f"{len(chosen)} of {len(concepts)} concepts (seed {split_seed})"
    return drawn_data(
        "icons",
        [drawing for drawing in drawings if _font(drawing) not in TEST_FONTS],
        test,
        validation=VALIDATION,
        split_seed=split_seed,
        carrier=CARRIER,
        settings={"image_size": image_size, "classes": classes, "split_seed": split_seed, "test": TEST_FONTS},
        note=f"{part if len(chosen) < len(concepts) else f'all {len(concepts)} concepts'}, {image_size} px; "
        f"test drawings from {' and '.join(TEST_FONTS)}, fonts that training never saw",
    )


def _font(drawing: Drawing) -> str:
    return drawing.name.partition(":")[0]


def read_glyphs() -> list[Glyph]:
    """Return the named glyphs of all fonts, training fonts first."""
    glyphs = []
    for font in sorted(FONTS, key=lambda font: (font in TEST_FONTS, font)):
        stem, version = FONTS[font]
        charmap = carriers.member(CARRIER, f"qtawesome/fonts/{stem}-charmap-{version}.json")
        codepoints = json.loads(charmap.read_text("utf-8"))
        glyphs += [Glyph(font, name, int(code, 16)) for name, code in sorted(codepoints.items())]
    return glyphs


def concept_of(name: str) -> str:
    """Return a glyph's name without a trailing number and without the suffixes that name a style."""
    return STYLE.sub("", re.sub(r"-\d+$", "", name))


def concepts_of(glyphs: Sequence[Glyph]) -> dict[str, list[Glyph]]:
    """Return the concepts (``MIN_DRAWINGS``, ``MIN_FONTS``) and their glyphs, each under one name only."""
    groups = defaultdict(dict)
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


def draw(concept: str, glyphs: Sequence[Glyph], image_size: int) -> list[Drawing]:
    """Draw the glyphs of a concept at equal extent; of drawings that are the same, pixel by pixel, only the first."""
    from PIL.Image import Resampling

    marks = {}
    for glyph in glyphs:
        stem, version = FONTS[glyph.font]
        font = load_font(carriers.member(CARRIER, f"qtawesome/fonts/{stem}-{version}.ttf"), EM)
        mark = ink(font, chr(glyph.codepoint))
        marks.setdefault((mark.size, mark.tobytes()), (f"{glyph.font}:{glyph.name}", mark))
    drawings = []
    for name, mark in marks.values():
        scale = EXTENT * image_size / max(mark.size)
        mark = mark.resize([max(round(scale * length), 1) for length in mark.size], Resampling.BOX)
        drawings.append(Drawing(name, concept, on_white(mark, image_size)))
    return drawings
