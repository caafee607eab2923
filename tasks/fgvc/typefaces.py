"""Typefaces: two short words set in one of fourteen text typefaces; training never saw the test words and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, product
from typing import NamedTuple

from zipeft.api.data import Data
from zipeft.sources import package_archive
from zipeft.sources.splits import choose_classes, cut
from zipeft.tasks.fgvc.drawing import Drawing, drawn_data, drawn_once, load_font

ARCHIVE = package_archive.PackageArchive(
    name="rendercv-fonts",
    version="0.5.1",
    kind="wheel",
    sha256="e82ee2cc9f6078c8aa05ea8bb5ab38b369e3487f638c44e4f329092f433dd460",
    size=33_124_639,
    licence="MIT; each font under an open licence of its own",
)

FONTS = {
    "EB Garamond": "EB Garamond/EBGaramond-Regular.ttf",
    "Fontin": "Fontin/Fontin-Regular.otf",
    "Gentium Book Plus": "Gentium Book Plus/GentiumBookPlus-Regular.ttf",
    "Lato": "Lato/Lato-Regular.ttf",
    "Mukta": "Mukta/Mukta-Regular.ttf",
    "Noto Sans": "Noto Sans/NotoSans-Regular.ttf",
    "Open Sans": "Open Sans/OpenSans-Regular.ttf",
    "Open Sauce Sans": "Open Sauce Sans/OpenSauceSans-Regular.ttf",
    "Poppins": "Poppins/Poppins-Regular.ttf",
    "Raleway": "Raleway/Raleway-Regular.ttf",
    "Roboto": "Roboto/Roboto-Regular.ttf",
    "Source Sans 3": "Source Sans 3/SourceSans3-Regular.ttf",
    "Ubuntu": "Ubuntu/Ubuntu-Regular.ttf",
    "XCharter": "XCharter/XCharter-Regular.otf",
}
"""Every text family of the carrier, in its upright regular face. Noto Sans JP, KR and SC share one Latin alphabet, that
of Source Sans, and are no classes of their own."""

TRAIN_WORDS = (
    "Act", "Bag", "Car", "Dry", "Egg", "Fly", "Gas", "Hat", "Ink", "Jet", "Key", "Leg", "Nut", "Oak", "Pay",
    "Rag", "Sky", "Tea", "Use", "Vet", "Yes", "Zip", "Bet", "Ask", "Box", "Cup", "Day", "End", "Fan", "Get",
    "Hid", "Jug", "Kid", "Lot", "Net", "Old", "Pig", "Ran", "Sit", "Top", "Van", "Axe", "Ago", "Bee", "Eat",
    "Few", "Ice", "Lip", "Not", "Off", "Put", "Our", "Sad", "Ten", "Urn", "Via", "Ash", "Yet", "Zoo", "Art",
)  # fmt: skip
TEST_WORDS = (
    "Bay", "Cry", "Dog", "Ear", "Fig", "Gap", "Job", "Kit", "Lay", "Red", "Sea", "Try",
    "Far", "Dot", "Hug", "Jar", "Led", "Nod", "Pen", "Run", "Sun", "Tax", "Cat", "Air",
)  # fmt: skip

TRAIN_SIZES = (0.38, 0.42, 0.46)
TEST_SIZES = (0.40, 0.44)
"""The font's em as a part of the image's side."""

VALIDATION = 0.2
"""The part of the training words that is validation."""

BASELINES = (0.38, 0.84)
"""Where the two words stand, as parts of the image's side from the top; at the largest size nothing is cut off."""

OVERSAMPLING = 4
"""Words are drawn so much larger and averaged down: a font's hinting plays no part."""

RENDERING = 1
"""Part of the name of what is kept: another number for every change of how words are drawn."""


class Text(NamedTuple):
    upper: str
    lower: str
    size: float


def load(image_size: int, classes: float, split_seed: int) -> Data:
    """Return the typefaces, drawn at ``image_size``.

    ``classes`` (0: all) is as in ``zipeft.sources.splits.choose_classes``.

    All typefaces have the same words at the same sizes: each pair of training words at one size, each pair of test
    words at every test size. Validation takes its pairs from the training words, with ``split_seed``, the same for all
    typefaces: were the words of an image in training under other typefaces only, they would point away from its own.
    """
    chosen = choose_classes(list(FONTS), classes, split_seed)
    texts = [Text(*words, size) for words, size in zip(_pairs(TRAIN_WORDS), cycle(TRAIN_SIZES), strict=False)]
    stay, taken = cut(["any"] * len(texts), VALIDATION, split_seed)
    splits = {
        "train": [texts[index] for index in stay],
        "validation": [texts[index] for index in taken],
        "test": [Text(*words, size) for words, size in product(_pairs(TEST_WORDS), TEST_SIZES)],
    }
    part = f"{len(chosen)} of {len(FONTS)} typefaces (seed {split_seed})"
    return drawn_data(
        "typefaces",
        {split: _drawings(chosen, texts, image_size) for split, texts in splits.items()},
        carrier=ARCHIVE,
        settings={"image_size": image_size, "classes": classes, "split_seed": split_seed},
        note=f"{part if len(chosen) < len(FONTS) else f'all {len(FONTS)} typefaces'}, two words an image, "
        f"{image_size} px; test words and sizes are ones that training never saw",
    )


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))


def _drawings(typefaces: Sequence[str], texts: Sequence[Text], image_size: int) -> list[Drawing]:
    """Return the texts in each typeface; they are drawn once for a cache."""
    asked = [RENDERING, [(face, FONTS[face]) for face in typefaces], texts]
    drawings = (draw(face, text, image_size) for face in typefaces for text in texts)
    return drawn_once(ARCHIVE, "typefaces", image_size, asked, lambda: drawings)


def draw(typeface: str, text: Text, image_size: int) -> Drawing:
    """Draw two words, one above the other, black on white."""
    import numpy as np
    import PIL.Image
    from PIL import ImageDraw

    side = OVERSAMPLING * image_size
    path = package_archive.member(ARCHIVE, f"rendercv_fonts/{FONTS[typeface]}")
    font, image = load_font(path, round(text.size * side)), PIL.Image.new("L", (side, side), "white")
    for word, baseline in zip((text.upper, text.lower), BASELINES, strict=True):
        ImageDraw.Draw(image).text((side / 2, baseline * side), word, fill="black", font=font, anchor="ms")
    pixels = np.asarray(image.reduce(OVERSAMPLING))
    return Drawing(f"{typeface}:{text.upper} {text.lower} at {text.size}", typeface, pixels)
