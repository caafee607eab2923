"""Drawing text from font files in black on white, and making a data set of the drawings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.splits import cut
from zipeft.task import Data, Split

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from zipeft.carriers import Carrier


class Drawing(NamedTuple):
    name: str
    label: str
    image: Image


def load_font(path: Path, size: int) -> FreeTypeFont:
    """Return a font whose em is ``size`` pixels, laid out the same whatever Pillow was built with."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def ink(font: FreeTypeFont, text: str) -> Image | None:
    """Return ``text`` in white on black ("L"), cropped to its ink; None if there is none."""
    import PIL.Image
    from PIL import ImageDraw

    left, top, right, bottom = font.getbbox(text)
    image = PIL.Image.new("L", (max(int(right - left), 1), max(int(bottom - top), 1)))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
    box = image.getbbox()
    return image.crop(box) if box else None


def on_white(mark: Image, side: int) -> Image:
    """Return ink, as ``ink`` gives it, in black in the middle of a white RGB square that cuts off what is beyond."""
    import PIL.Image

    square = PIL.Image.new("RGB", (side, side), "white")
    square.paste("black", ((side - mark.width) // 2, (side - mark.height) // 2), mark)
    return square


def drawn_data(
    name: str,
    train: Sequence[Drawing],
    test: Sequence[Drawing],
    *,
    validation: float,
    split_seed: int,
    carrier: Carrier,
    settings: dict[str, Any],
    note: str,
) -> Data:
    """Return drawings as a data set; ``validation`` is the part of the training drawings that is cut for it, by class.

    The checksum covers the carrier, ``settings``, and the names and targets of every split.
    """
    classes = sorted({drawing.label for drawing in train})
    stay, taken = cut([drawing.label for drawing in train], validation, split_seed)
    splits = {
        "train": _split([train[index] for index in stay], classes),
        "validation": _split([train[index] for index in taken], classes),
        "test": _split(test, classes),
    }
    content = {split: [part.names, part.targets] for split, part in splits.items()}
    record = json.dumps([carrier.sha256, settings, classes, content], sort_keys=True)
    counts = ", ".join(f"{len(part):,} {split}" for split, part in splits.items())
    return Data(
        name=name,
        classes=classes,
        **splits,
        source=carrier.label,
        checksum=hashlib.sha256(record.encode()).hexdigest(),
        note=f"{note}; images: {counts}",
    )


def _split(drawings: Sequence[Drawing], classes: Sequence[str]) -> Split:
    return Split(
        examples=[drawing.image for drawing in drawings],
        targets=[classes.index(drawing.label) for drawing in drawings],
        names=[drawing.name for drawing in drawings],
    )
