"""Read images as RGB pixels: which formats are read, how EXIF turns them, and what cannot be read."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast, overload

from zipeft.errors import UserError, one_line
from zipeft.files import open_file
from zipeft.sources.git_lfs import IS_POINTER, is_pointer

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

NOT_DECODED = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow does not decode by itself. For EPS it would start Ghostscript, an interpreter, on the file."""

ORIENTATION = 0x0112
"""The EXIF tag for the orientation of the camera."""

DARK = 4096
"""16-bit values that all stay below this are likely 12-bit ones; as RGB they would be the darkest 16 of 256 shades."""

_dark: list[str] = []
"""The dark image that was logged: one is enough, as others are likely to be alike."""


class BrokenImage(UserError):
    """An image that does not decode, or whose numbers do not say which of them are black and white."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return (
            f"{self.path} does not decode ({self.reason}): repair or remove it, "
            "or set skip_broken=true to leave such images out"
        )


class NoRange(UserError):
    """An image whose format does not say which numbers are black and white."""


# --- kinds ------------------------------------------------------------------------------------------------------------


@cache
def formats() -> tuple[str, ...]:
    """Return the formats that the installed Pillow decodes by itself."""
    import PIL.Image

    PIL.Image.init()
    return tuple(name for name in PIL.Image.ID if name not in NOT_DECODED)


@cache
def suffixes() -> tuple[str, ...]:
    """Return how the names of files in these formats end, in lower case."""
    import PIL.Image

    known = set(formats())
    return tuple(sorted(suffix for suffix, name in PIL.Image.registered_extensions().items() if name in known))


# --- reading ----------------------------------------------------------------------------------------------------------


def read_image(path: Path) -> Image:
    """Return an image file in RGB, turned as its EXIF orientation says; of an animation, the first frame.

    Raises ``BrokenImage``, also for an image so large that Pillow takes it for a decompression bomb.
    """
    try:
        file = open_file(path)
    except OSError as error:
        raise BrokenImage(path, error.strerror or one_line(error)) from error
    with file:
        return decoded(file, str(path))


def decoded(content: bytes | BinaryIO, place: str) -> Image:
    """Return the image that bytes or an open file hold, as ``read_image`` does. ``BrokenImage`` names ``place``."""
    import PIL
    import PIL.Image

    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        with PIL.Image.open(file, formats=formats()) as image:
            image.load()  # before its EXIF is looked at: that may be broken where all pixels are whole
            _warn_if_dark(image, place)
            return to_rgb(_upright(image))
    except PIL.UnidentifiedImageError as error:
        file.seek(0)
        reason = f"it {IS_POINTER}" if is_pointer(file) else "it is no image of a kind that Pillow decodes"
        raise BrokenImage(place, reason) from error
    except (
        Exception
    ) as error:  # Pillow's decoders raise many kinds: OSError, SyntaxError, struct.error, IndexError, ...
        raise BrokenImage(place, one_line(error)) from error


def _upright(image: Image) -> Image:
    """Return the image turned as its EXIF says; as it is, where that is broken or says nothing.

    (Pillow's ``exif_transpose`` also writes the EXIF anew, and fails where that has a value that it cannot write.)
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        turn = turns.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # as many kinds as for pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def to_rgb(image: Image) -> Image:
    """Return the image in RGB: transparency on white, 16-bit values by their upper byte.

    Raises ``NoRange`` for numbers beyond 16 bits and for floating-point numbers: scaled by their own least and greatest
    value, an image would look as bright as any other, and what is black in one would be grey in the next.
    """
    import PIL.Image

    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise NoRange(_no_range("floating-point numbers (mode F)"))
    if image.mode.startswith("I"):  # Pillow's own conversion clips 16-bit values at 255, which leaves white
        import numpy as np

        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise NoRange(_no_range(f"numbers from {values.min():,} to {values.max():,} (mode {image.mode})"))
        return PIL.Image.fromarray((values >> 8).astype("uint8")).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _no_range(what: str) -> str:
    return f"its pixels are {what}, of which nothing says what is black and what is white: save it with 8 or 16 bits"


def _warn_if_dark(image: Image, place: str) -> None:
    """Warn once of 16-bit images that look like 12-bit ones: their upper byte holds almost nothing."""
    if _dark or not image.mode.startswith("I"):
        return
    least, greatest = cast(tuple[float, float], image.getextrema())  # of its only band
    if least >= 0 and 0 < greatest < DARK:
        _dark.append(place)
        log.warning(
            "%s has 16-bit values up to %d of 65,535, and is read as almost black: save such images with all 16 bits, "
            "or with 8",
            place,
            greatest,
        )


@dataclass(frozen=True)
class ImageFiles(Sequence["Image"]):
    """Image files as a sequence of RGB images, each decoded when it is asked for. See ``read_image`` for its errors."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFiles: ...
    def __getitem__(self, index: int | slice) -> Image | ImageFiles:
        return ImageFiles(self.paths[index]) if isinstance(index, slice) else read_image(self.paths[index])


CROP = 224 / 256
"""The part of the shorter side that "crop" keeps: resizing to 256 and cropping 224, at any size."""


def fit(image: Image, size: int, resize: str) -> Image:
    """Return the image as ``size`` x ``size`` pixels, antialiased (bicubic); ``resize`` is as in ``ImageTask``."""
    from PIL.Image import Resampling

    box = None
    if resize == "crop":  # one step for resize and crop: no huge image in between, however long and thin this one is
        side = min(image.size) * CROP
        left, top = ((length - side) / 2 for length in image.size)
        box = (left, top, left + side, top + side)
    return image.resize((size, size), Resampling.BICUBIC, box=box)
