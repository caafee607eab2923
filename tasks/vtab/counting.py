"""Counting objects in drawn scenes, in the manner of CLEVR (Johnson et al. 2017): 3 to 10 solids on a plain ground."""

from __future__ import annotations

from functools import cache, partial
from math import hypot
from typing import TYPE_CHECKING, NamedTuple

from zipeft.api.data import Data, Split
from zipeft.images.lazy import Lazy
from zipeft.tasks.vtab.data import Sizes, build_data, limited
from zipeft.tasks.vtab.sets import TRAIN, VALIDATION, count_label

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE, OVERSAMPLING = 128, 3
"""Pixels of a scene's side, and how much larger it is drawn before it is averaged down."""

COUNTS = range(3, 11)

TEST = 5000
"""Test scenes, if all are taken."""

COLOURS = {
    "grey": (120, 120, 120), "red": (185, 50, 50), "blue": (50, 85, 205), "green": (40, 125, 40),
    "brown": (135, 85, 40), "purple": (135, 50, 180), "cyan": (50, 195, 195), "yellow": (220, 205, 60),
}  # fmt: skip

SHAPES = ("ball", "cube", "cylinder")

RADII = (0.055, 0.085)
"""Of a small and a large object in the foreground, as parts of the image's side."""

CLEARANCE, TRIES = 0.8, 50
"""Two objects' centres are at least so many times the sum of their radii apart, if a place is found in so many tries:
of equal discs, the nearer then hides at most a tenth of the other."""

RENDERING = 1
"""Part of the checksum: another number for every change of what is drawn."""


class Solid(NamedTuple):
    """An object: its place and its radius are parts of the image's side."""

    shape: str
    colour: tuple[int, int, int]
    x: float
    y: float
    radius: float


def load(name: str, sizes: Sizes) -> Data:
    """Return the scenes of ``split_seed``, each drawn when it is asked for: 800, 200 and up to 5,000."""
    known = TRAIN + VALIDATION
    indices = {
        "train": list(range(TRAIN)),
        "validation": list(range(TRAIN, known)),
        "test": limited(range(known, known + TEST), sizes),
    }
    counts = _counts(sizes.split_seed)
    splits = {
        split: Split(
            examples=Lazy(partial(draw, sizes.split_seed), taken),
            targets=[count_label(counts[index]) for index in taken],
            names=[f"scene {index}" for index in taken],
        )
        for split, taken in indices.items()
    }
    return build_data(
        name,
        [str(count) for count in COUNTS],
        splits,
        source="drawn scenes",
        content=["drawn-count", RENDERING, sizes.split_seed],
        notes=[f"classes are numbers of objects; scenes drawn with seed {sizes.split_seed}"],
    )


def scene(seed: int, index: int) -> list[Solid]:
    """Return the objects of a scene, from the farthest to the nearest."""
    import numpy as np

    stream = np.random.RandomState([seed, index])
    solids: list[Solid] = []
    for _ in range(_counts(seed)[index]):
        best, tries = _solid(stream), 1
        while clearance(best, solids) < CLEARANCE and tries < TRIES:
            best, tries = max(best, _solid(stream), key=lambda solid: clearance(solid, solids)), tries + 1
        solids.append(best)
    return sorted(solids, key=lambda solid: solid.y)


def clearance(solid: Solid, others: list[Solid]) -> float:
    """Return how far the nearest of the others is, in sums of the two radii; infinity if there is none."""
    distances = (hypot(solid.x - one.x, solid.y - one.y) / (solid.radius + one.radius) for one in others)
    return min(distances, default=float("inf"))


@cache
def _counts(seed: int) -> list[int]:
    """Return how many objects each scene of a seed has, so that labels are known without drawing."""
    import numpy as np

    total = TRAIN + VALIDATION + TEST
    return np.random.RandomState(seed).randint(COUNTS.start, COUNTS.stop, total).tolist()


def _solid(stream: np.random.RandomState) -> Solid:
    shape, colour = SHAPES[stream.randint(len(SHAPES))], list(COLOURS.values())[stream.randint(len(COLOURS))]
    x, depth = stream.uniform(0.1, 0.9), stream.uniform(0, 1)
    radius = RADII[stream.randint(len(RADII))] * (0.65 + 0.35 * depth)  # what is farther looks smaller
    return Solid(shape, colour, x, 0.3 + 0.58 * depth, radius)


# --- drawing ----------------------------------------------------------------------------------------------------------


def draw(seed: int, index: int) -> Image:
    """Return a scene as an RGB image of 128 x 128, lit from the upper left."""
    from PIL import ImageDraw

    side = SIDE * OVERSAMPLING
    image = _ground(side).copy()
    canvas = ImageDraw.Draw(image)
    solids = scene(seed, index)
    for solid in solids:
        x, y, radius = (value * side for value in (solid.x, solid.y, solid.radius))
        canvas.ellipse(_box(x + 0.25 * radius, y + 0.8 * radius, 1.15 * radius, 0.45 * radius), fill=(118, 118, 118))
        PAINTERS[solid.shape](canvas, x, y, radius, solid.colour)
    return image.reduce(OVERSAMPLING)


@cache
def _ground(side: int) -> Image:
    import PIL.Image

    return PIL.Image.linear_gradient("L").resize((side, side)).point(lambda value: 150 + value // 4).convert("RGB")


def _ball(canvas: ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    for step in range(12):
        part = step / 11
        size, shift = radius * (1 - 0.85 * part), 0.4 * radius * part
        canvas.ellipse(_box(x - shift, y - shift, size, size), fill=_lit(colour, 0.55 + 0.8 * part))


def _cube(canvas: ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    """A cube from above, a corner to the front."""
    w, h = 0.87 * radius, 0.5 * radius
    back, left, right, front = (x, y - radius), (x - w, y - h), (x + w, y - h), (x, y)
    low_left, low_right, low_front = (x - w, y + h), (x + w, y + h), (x, y + radius)
    canvas.polygon([back, right, front, left], fill=_lit(colour, 1.25))
    canvas.polygon([left, front, low_front, low_left], fill=_lit(colour, 0.95))
    canvas.polygon([right, front, low_front, low_right], fill=_lit(colour, 0.6))


def _cylinder(canvas: ImageDraw, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    w, h, top, bottom = 0.8 * radius, 0.3 * radius, y - 0.65 * radius, y + 0.65 * radius
    canvas.ellipse(_box(x, bottom, w, h), fill=_lit(colour, 0.8))
    strips = 16
    for strip in range(strips):
        low, high = (x - w + 2 * w * (strip + end) / strips for end in (0, 1))
        light = 1.15 - 0.6 * abs(strip / (strips - 1) - 0.3)
        sag = h * (1 - ((strip + 0.5) / strips * 2 - 1) ** 2) ** 0.5
        canvas.rectangle([low, top, high, bottom + sag], fill=_lit(colour, light))
    canvas.ellipse(_box(x, top, w, h), fill=_lit(colour, 1.25))


PAINTERS = {"ball": _ball, "cube": _cube, "cylinder": _cylinder}


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return (x - width, y - height, x + width, y + height)


def _lit(colour: tuple[int, int, int], light: float) -> tuple[int, ...]:
    return tuple(min(255, round(value * light)) for value in colour)
