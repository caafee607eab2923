"""What the embedded sets share: fonts, drawings, and a data set of drawings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.api.data import Data, Split

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from zipeft.sources.package_archive import PackageArchive


class Drawing(NamedTuple):
    name: str
    label: str
    image: Image


def load_font(path: Path, size: int) -> FreeTypeFont:
    """Return a font whose em is ``size`` pixels, laid out the same whatever Pillow was built with."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def drawn_data(
    name: str,
    splits: Mapping[str, Sequence[Drawing]],
    *,
    carrier: PackageArchive,
    settings: Mapping[str, Any],
    note: str,
) -> Data:
    """Return drawings, given by split ("train", "validation", "test"), as a data set.

    The checksum covers the carrier, ``settings``, and the names and targets of every split.
    """
    classes = sorted({drawing.label for drawing in splits["train"]})
    parts = {split: _split(drawings, classes) for split, drawings in splits.items()}
    content = {split: [part.names, part.targets] for split, part in parts.items()}
    record = json.dumps([carrier.sha256, settings, classes, content], sort_keys=True)
    counts = ", ".join(f"{len(part):,} {split}" for split, part in parts.items())
    return Data(
        name=name,
        classes=classes,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
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
