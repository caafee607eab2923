"""dSprites (Matthey et al. 2017) by its factors: drawn again by formulas, or read from the published file.

The published images are one of each combination of 3 shapes, 6 scales, 40 orientations, 32 x and 32 y positions, in the
order of a counter whose last digit is y. Orientations go from 0 to 2 pi with both ends, so that the first and the last
are one image with two labels, here as there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from math import cos, pi, prod, sin, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipeft.api.data import Data, Split
from zipeft.errors import UserError, one_line
from zipeft.images.lazy import Lazy
from zipeft.sources.package_archive import file_sha256
from zipeft.tasks.vtab.data import NOT_VTABS, Sizes, build_data, first_thousand, limited, numbered
from zipeft.tasks.vtab.sets import location_label, orientation_label

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FACTORS = ("colour", "shape", "scale", "orientation", "x", "y")

SIZES = (1, 3, 6, 40, 32, 32)
"""How many values each factor has."""

SIDE, OVERSAMPLING = 64, 8
"""Pixels of an image's side, and how many samples a pixel has along each side."""

REACH = 16.0
"""Pixels from the centre of a sprite of scale 1 to its farthest point; centres keep as far from the edges."""

RENDERING = 1
"""Part of the checksum: another number for every change of what is drawn."""

TEST = 10
"""One in so many images is a test image, as in VTAB."""

NPZ = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"

TASKS = {"location": ("x", location_label), "orientation": ("orientation", orientation_label)}
"""What is asked for, as VTAB defines it: the factor, and the function from its value's number to one of 16 classes."""

AMBIGUOUS = {
    "orientation": "its first and last angles are one image with two labels, and squares and ellipses look alike at "
    "several angles: no model can be right on all",
}
"""What is to be known about what is asked for."""

BLOCK = 1024
"""Images of the file that are in memory at once."""


def load_redrawn(name: str, task: str, sizes: Sizes) -> Data:
    """Return the grid as it is drawn here, on demand, under a name of its own."""
    return _data(
        name, task, sizes, DSprites(), source="drawn from dSprites' factors",
        content=["dsprites redrawn", RENDERING],
        note="a re-rendering of dSprites by formulas, not the published images",
    )  # fmt: skip


def load_published(name: str, task: str, sizes: Sizes, path: Path) -> Data:
    """Return the images of the published file. Raises ``UserError`` for a file that is not that grid."""
    check_grid(path)
    taken = sorted({index for indices in splits_of_grid(sizes).values() for index in indices})
    return _data(
        name, task, sizes, StoredSprites(path, taken), source=f"file {path.name}",
        content=["dsprites file", file_sha256(path)], note=f"the published images; {NOT_VTABS}",
    )  # fmt: skip


def _data(
    name: str, task: str, sizes: Sizes, images: Sequence[Image] | Mapping[int, Image],
    *, source: str, content: Any, note: str,
) -> Data:  # fmt: skip
    factor, label = TASKS[task]
    splits = {
        split: Split(
            examples=Lazy(images.__getitem__, indices),
            targets=[label(factors_of(index)[factor]) for index in indices],
            names=[f"sprite {index}" for index in indices],
        )
        for split, indices in splits_of_grid(sizes).items()
    }
    drawn = f"drawn from the grid with seed {sizes.split_seed}"
    ambiguous = [AMBIGUOUS[task]] if task in AMBIGUOUS else []
    return build_data(name, numbered(16), splits, source=source, content=content, notes=[note, drawn, *ambiguous])


def splits_of_grid(sizes: Sizes) -> dict[str, list[int]]:
    """Return the indices of each split: 800, 200, and of a tenth of the grid as many as are to be taken."""
    total = prod(SIZES)
    train, validation, others = first_thousand(total, sizes.split_seed, "the grid")
    return {"train": train, "validation": validation, "test": limited(others[-(total // TEST) :], sizes)}


def factors_of(index: int) -> dict[str, int]:
    """Return the number of each factor's value, from 0, of an image by its place in the grid."""
    values = {}
    for factor, size in zip(reversed(FACTORS), reversed(SIZES), strict=True):
        index, values[factor] = divmod(index, size)
    return values


# --- drawn ------------------------------------------------------------------------------------------------------------


class DSprites(Sequence["Image"]):
    """All images of the grid, each drawn when it is asked for: white on black, mode "L", 64 x 64."""

    def __len__(self) -> int:
        return prod(SIZES)

    def __getitem__(self, index: int) -> Image:  # type: ignore[override]  # no slices: nothing takes one
        if not 0 <= index < len(self):
            raise IndexError(index)
        return as_image(draw(**factors_of(index)))


def draw(colour: int, shape: int, scale: int, orientation: int, x: int, y: int) -> np.ndarray:
    """Return a sprite as booleans (64, 64): a pixel is white where at least half of its samples are inside."""
    import numpy as np

    radius = REACH * (0.5 + 0.5 * scale / 5)
    angle = 2 * pi * orientation / 39
    centre = [REACH + (SIDE - 2 * REACH) * place / 31 for place in (x, y)]
    low = [int(value - radius) for value in centre]
    span = int(2 * radius) + 2  # pixels along each side that the sprite may touch
    samples = (np.arange(span * OVERSAMPLING) + 0.5) / OVERSAMPLING
    across, down = samples[None] + low[0] - centre[0], samples[:, None] + low[1] - centre[1]
    u = (across * cos(angle) + down * sin(angle)) / radius
    v = (down * cos(angle) - across * sin(angle)) / radius
    inside = OUTLINES[shape](u, v).reshape(span, OVERSAMPLING, span, OVERSAMPLING).mean(axis=(1, 3)) >= 0.5
    image = np.zeros((SIDE + span, SIDE + span), bool)
    image[low[1] : low[1] + span, low[0] : low[0] + span] = inside
    return image[:SIDE, :SIDE]


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.maximum(abs(u), abs(v)) <= sqrt(0.5)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + (2 * v) ** 2 <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The curve (x^2 + y^2 - 1)^3 = x^2 y^3, made to fit into the unit circle."""
    x, y = 1.26 * u, 0.24 - 1.26 * v
    x2, y2 = x * x, y * y  # products: NumPy's third power takes ten times as long
    rest = x2 + y2 - 1
    return rest * rest * rest <= x2 * y2 * y


OUTLINES = (_square, _ellipse, _heart)
"""The shapes, in the order of the file: which points (u, v) of the unit circle are inside, v pointing down."""


def as_image(white: np.ndarray) -> Image:
    """Return an image (mode "L") that is white where the array is true."""
    import PIL.Image

    return PIL.Image.fromarray(white.astype("uint8") * 255)


# --- the published file -----------------------------------------------------------------------------------------------


class StoredSprites(Mapping[int, "Image"]):
    """Some images of the published file, by their place in the grid, in memory at one bit a pixel.

    The file is compressed, 3 GB when it is not, so it is read once, block by block.
    """

    def __init__(self, path: Path, indices: Sequence[int]) -> None:
        import numpy as np

        self._row = {index: row for row, index in enumerate(sorted(indices))}
        self._bits = np.concatenate(list(_packed(path, np.array(sorted(indices)))))

    def __getitem__(self, index: int) -> Image:
        import numpy as np

        return as_image(np.unpackbits(self._bits[self._row[index]]).reshape(SIDE, SIDE))

    def __iter__(self) -> Iterator[int]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)


def check_grid(path: Path) -> None:
    """Raise ``UserError`` unless the file's ``latents_classes`` are those of the grid, in its order.

    The file's "metadata" are pickled, and are not read.
    """
    import numpy as np

    total = prod(SIZES)
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as content:
            found = content["latents_classes"]
    except Exception as error:  # NumPy raises many kinds for a damaged header
        raise _damaged(path, one_line(error)) from None
    expected = np.stack(np.unravel_index(np.arange(total), SIZES), axis=1)
    if not np.array_equal(found, expected):
        raise _damaged(path, f"latents_classes are not those of {total:,} sprites in their order")


def _packed(path: Path, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images of the rising ``indices`` as packed bits, (images, 512), block by block."""
    import numpy as np
    from numpy.lib import format as npy

    total, pixels = prod(SIZES), SIDE * SIDE
    try:
        with zipfile.ZipFile(path) as bundle, bundle.open("imgs.npy") as stream:
            header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
            shape, fortran, dtype = header(stream)
            if shape != (total, SIDE, SIDE) or fortran or dtype != np.uint8:
                raise _damaged(path, f"imgs are {dtype} {shape}, not uint8 {(total, SIDE, SIDE)}")
            for start in range(0, total, BLOCK):
                count = min(BLOCK, total - start)
                content = stream.read(count * pixels)
                if len(content) < count * pixels:
                    raise EOFError("it is cut off")
                wanted = indices[(indices >= start) & (indices < start + count)] - start
                yield np.packbits(np.frombuffer(content, np.uint8).reshape(count, pixels)[wanted] > 0, axis=1)
    except UserError:
        raise
    except Exception as error:  # NumPy raises many kinds for a damaged header
        raise _damaged(path, one_line(error)) from None


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as the dSprites file ({reason}): get it again")
