"""What the embedded sets share: fonts, drawings that are made once for a cache, and a data set of drawings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.api.data import Data, Split
from zipeft.images.lazy import Lazy
from zipeft.sources import package_archive

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

    from zipeft.sources.package_archive import PackageArchive


class Drawing(NamedTuple):
    """A drawing, its label, and its ``pixels`` (size, size), grey values from 0 to 255."""

    name: str
    label: str
    pixels: np.ndarray

    @property
    def image(self) -> Image:
        return as_rgb(self.pixels)


def as_rgb(pixels: np.ndarray) -> Image:
    """Return grey values (height, width) as an image in RGB."""
    import PIL.Image

    return PIL.Image.fromarray(pixels).convert("RGB")


def load_font(path: Path, size: int) -> FreeTypeFont:
    """Return a font whose em is ``size`` pixels, laid out the same whatever Pillow was built with."""
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def drawn_once(
    carrier: PackageArchive, kind: str, image_size: int, asked: Any, draw: Callable[[], Iterable[Drawing]]
) -> list[Drawing]:
    """Return what ``draw`` returns, which is called once for a cache: its drawings are kept there, sealed.

    The name of the file holds the size and a checksum of the carrier of the fonts, of what draws them (the versions of
    Pillow and FreeType), and of ``asked``, a JSON value for all else that decides the drawings.
    """
    import numpy as np
    import PIL
    from PIL import features

    decided = [carrier.sha256, PIL.__version__, features.version("freetype2"), image_size, asked]
    checksum = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:16]
    path = package_archive.derived(carrier, f"{kind}_{image_size}px_{checksum}.npz", lambda file: _write(file, draw()))
    with np.load(path) as columns:
        parts = columns["names"].tolist(), columns["labels"].tolist(), columns["pixels"]
        return [Drawing(*each) for each in zip(*parts, strict=True)]


def _write(file: Path, drawings: Iterable[Drawing]) -> None:
    import numpy as np

    names, labels, pixels = zip(*drawings, strict=True)
    np.savez_compressed(file, names=np.array(names), labels=np.array(labels), pixels=np.stack(pixels))


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
    parts = {split: split_of(drawings, classes) for split, drawings in splits.items()}
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


def split_of(
    drawings: Sequence[Drawing], classes: Sequence[str], image: Callable[[np.ndarray], Image] = as_rgb, folder: str = ""
) -> Split:
    """Return drawings as a split, of which ``image`` makes each image when it is read; names are put in ``folder``."""
    return Split(
        examples=Lazy(image, [drawing.pixels for drawing in drawings]),
        targets=[classes.index(drawing.label) for drawing in drawings],
        names=[f"{folder}{drawing.name}" for drawing in drawings],
    )
