"""Icons for few-shot learning: concepts that the embedded CLIP never saw, tested on fonts that training never saw."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from zipeft.sources.splits import cut
from zipeft.tasks.coop.icon_concepts import HELD_OUT, words_of
from zipeft.tasks.coop.shots import Members, Pool
from zipeft.tasks.fgvc.drawing import Drawing, as_rgb, drawn_data, split_of
from zipeft.tasks.fgvc.icons import ARCHIVE, TEST_FONTS, VALIDATION, concepts_of, drawings_of, read_glyphs

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

IMAGE_SIZE = 96
"""Pixels of a drawing's side; the model's own preprocessing does the rest."""

INVERTED = "inverted"


def load_icons(split_seed: int) -> Pool:
    """Return ``HELD_OUT``: test has the drawings of ``TEST_FONTS``; validation is cut from the others.

    The shifted test data are the test drawings in white on black. Taking one of the two fonts for it instead would
    halve the test data, and a difference between the two could not be told from one between their drawings.
    """
    seen, test = held_out_drawings()
    stay, taken = cut([drawing.label for drawing in seen], VALIDATION, split_seed)
    data = drawn_data(
        "icons",
        {
            "train": [seen[index] for index in stay],
            "validation": [seen[index] for index in taken],
            "test": test,
        },
        carrier=ARCHIVE,
        settings={"image_size": IMAGE_SIZE, "split_seed": split_seed, "shifted": INVERTED},
        note=f"{len(HELD_OUT)} concepts that the embedded CLIP never saw, {IMAGE_SIZE} px; test drawings from "
        f"{' and '.join(TEST_FONTS)}, fonts that neither it nor training saw; {INVERTED}: the same, white on black",
    )
    inverted = split_of(test, data.classes, _inverted, f"{INVERTED}/")
    named = replace(data, classes=[words_of(concept) for concept in data.classes], shifted={INVERTED: inverted})
    return Pool(named, rule=sample)


def sample(members: Members, shots: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Draw each split from a stream of its own, from every class.

    No published draws are to be met here, as they are for CoOp's data sets; the committed results rest on these.
    """
    drawn = {}
    for split, wanted in shots.items():
        stream = random.Random(seed)
        drawn[split] = [index for there in members[split] for index in stream.sample(there, min(wanted, len(there)))]
    return drawn


def held_out_drawings() -> tuple[list[Drawing], list[Drawing]]:
    """Return the drawings of ``HELD_OUT``: those of fonts that training may see, and those of ``TEST_FONTS``."""
    glyphs = concepts_of(read_glyphs())
    drawings = drawings_of({concept: glyphs[concept] for concept in sorted(HELD_OUT)}, IMAGE_SIZE)
    seen = [drawing for drawing in drawings if _font(drawing) not in TEST_FONTS]
    return seen, [drawing for drawing in drawings if _font(drawing) in TEST_FONTS]


def _font(drawing: Drawing) -> str:
    return drawing.name.partition(":")[0]


def _inverted(pixels: np.ndarray) -> Image:
    return as_rgb(255 - pixels)
