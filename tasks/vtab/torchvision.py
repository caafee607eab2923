"""Sets of VTAB in folders as torchvision makes them, where torchvision has VTAB's test images."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from zipeft.api.data import Data, Split
from zipeft.errors import UserError, one_line
from zipeft.images.assembly import note_shared_images
from zipeft.images.lazy import Lazy
from zipeft.images.reading import BrokenImage
from zipeft.tasks.vtab.data import (
    NOT_VTABS,
    Sizes,
    build_data,
    check_test,
    first_thousand,
    limited,
    numbered,
    picked,
    without_broken,
)
from zipeft.tasks.vtab.sets import SETS

ARGUMENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cifar100": ({"train": True}, {"train": False}),
    "dtd": ({"split": "train"}, {"split": "test"}),
    "flowers102": ({"split": "train"}, {"split": "test"}),
    "pets": ({"split": "trainval"}, {"split": "test"}),
    "svhn": ({"split": "train"}, {"split": "test"}),
}
"""How training and test data are asked for."""


def load(name: str, folder: Path, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set: 800 and 200 of its training images, drawn by the seed, and its test images.

    ``folder`` is the one that torchvision makes, in its root; SVHN's files lie in it. Nothing is downloaded. Raises
    ``UserError`` if torchvision does not find the set, or finds it damaged, and ``BrokenImage`` for an image that does
    not decode.
    """
    root = folder if name == "svhn" else folder.parent
    _check_files(folder)
    pools = [_pool(name, root, arguments) for arguments in ARGUMENTS[name]]
    train, validation, _ = first_thousand(len(pools[0]), sizes.split_seed, str(folder))
    splits = {
        "train": picked(pools[0], train),
        "validation": picked(pools[0], validation),
        "test": picked(pools[1], limited(range(len(pools[1])), sizes)),
    }
    notes = [NOT_VTABS, f"train and validation drawn with seed {sizes.split_seed}"]
    check_test(name, len(pools[1]), str(folder), notes)
    if skip_broken:
        splits = without_broken(splits, notes)
    pixels = {split: _pixels(part) for split, part in splits.items()}
    notes += note_shared_images(str(folder), {*pixels["train"], *pixels["validation"]}, pixels["test"])
    return build_data(
        name,
        numbered(SETS[name].classes),
        splits,
        source=f"torchvision {SETS[name].torchvision} in folder {folder.name}",
        content=list(pixels.values()),
        notes=notes,
    )


def _check_files(folder: Path) -> None:
    """Raise ``UserError`` for what is neither file nor folder: torchvision would wait for a FIFO without an end."""
    for path in folder.rglob("*"):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is no file, but a FIFO or a device: remove it")


def _pool(name: str, root: Path, arguments: dict[str, Any]) -> Split:
    from torchvision import datasets

    split = "test" if arguments is ARGUMENTS[name][1] else "train"
    try:
        found = getattr(datasets, SETS[name].torchvision)(root, download=False, **arguments)
        labels = next(getattr(found, known) for known in ("targets", "labels", "_labels") if hasattr(found, known))
    except Exception as error:  # torchvision raises whatever its parsers do
        raise UserError(
            f"{root} has no {split} data of {name} that torchvision can read ({one_line(error)}): get them again"
        ) from None
    count = len(found)
    names = [f"{split} {index}" for index in range(count)]
    images = Lazy(partial(_image, found, f"{root}, image {split}"), range(count))
    return Split(images, [int(label) for label in labels], names)


def _image(found: Any, place: str, index: int) -> Any:
    try:
        return found[index][0]
    except Exception as error:  # Pillow's decoders raise many kinds
        raise BrokenImage(f"{place} {index}", one_line(error)) from error


def _pixels(part: Split) -> list[str]:
    """Return a checksum of the pixels of each image."""
    images = map(part.examples.__getitem__, range(len(part)))
    return [hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest() for image in images]
