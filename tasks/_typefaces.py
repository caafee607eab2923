"""Typefaces: short words set in fourteen text typefaces; the test words and sizes are ones that training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, product

from zipeft.tasks._drawing import Drawing, drawn_data, ink, load_font, on_white

from zipeft import carriers
from zipeft.splits import choose_classes
from zipeft.task import Data

CARRIER = carriers.Carrier(
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
    "Act", "Bag", "Car", "Dry", "Egg", "Fly", "Gas", "Hat", "Ink", "Jet", "Key", "Leg",
    "Nut", "Oak", "Pay", "Quit", "Rag", "Sky", "Tea", "Use", "Vet", "Yes", "Zip", "Bet",
)  # fmt: skip
TEST_WORDS = ("Bay", "Cry", "Dog", "Ear", "Fig", "Gap", "Job", "Kit", "Lay", "Red", "Sea", "Try")

TRAIN_SIZES = (0.36, 0.42, 0.48)
TEST_SIZES = (0.39, 0.45)
"""The font's em as a part of the image's side."""

VALIDATION = 0.2
"""The part of each typeface's training images that is validation."""

OVERSAMPLING = 4
"""Words are drawn so much larger and averaged down: a font's hinting plays no part."""


def load(image_size: int, classes: int, split_seed: int) -> Data:
    """Return the typefaces, drawn at ``image_size``. ``classes`` (0: all) is as in ``zipeft.splits.choose_classes``.

    All typefaces have the same words at the same sizes: each training word at one size, each test word at every size.
    """
    chosen = choose_classes(list(FONTS), classes, split_seed)
    train = list(zip(TRAIN_WORDS, cycle(TRAIN_SIZES), strict=False))
    test = list(product(TEST_WORDS, TEST_SIZES))
    part = f"{len(chosen)} of {len(FONTS)} typefaces (seed {split_seed})"
    return drawn_data(
        "typefaces",
        [drawing for typeface in chosen for drawing in draw(typeface, train, image_size)],
        [drawing for typeface in chosen for drawing in draw(typeface, test, image_size)],
        validation=VALIDATION,
        split_seed=split_seed,
        carrier=CARRIER,
        settings={"image_size": image_size, "classes": classes, "split_seed": split_seed, "train": train, "test": test},
        note=f"{part if len(chosen) < len(FONTS) else f'all {len(FONTS)} typefaces'}, {image_size} px; "
        f"test images are {len(TEST_WORDS)} words at {len(TEST_SIZES)} sizes that training never saw",
    )


def draw(typeface: str, words: Sequence[tuple[str, float]], image_size: int) -> list[Drawing]:
    """Draw words, each at its size (the em as a part of ``image_size``), in one typeface."""
    path = carriers.member(CARRIER, f"rendercv_fonts/{FONTS[typeface]}")
    drawings = []
    for word, size in words:
        font = load_font(path, round(OVERSAMPLING * image_size * size))
        image = on_white(ink(font, word), OVERSAMPLING * image_size).reduce(OVERSAMPLING)
        drawings.append(Drawing(f"{typeface}:{word} at {size}", typeface, image))
    return drawings
