"""The 11 data sets of few-shot learning with CLIP, as CoOp lays them out (arXiv 2109.01134, appendix A)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zipeft.errors import UserError
from zipeft.sources.folder import require_folder, subfolders
from zipeft.sources.named_sets import NamedSets, PublishedSet, plain

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class CoOpSet(PublishedSet):
    """A published data set.

    The first of ``folders`` is CoOp's; ``bases`` are the folders in it
    that the paths of its images may be relative to. ``sizes`` are the published numbers of images for training,
    validation and test, and ``classes`` that of classes, where they could be counted in CoOp's own split file; else
    none and 0.
    """

    bases: tuple[str, ...]
    template: str = TEMPLATE
    classes: int = 0
    sizes: tuple[int, ...] = ()


SETS = {
    "imagenet": CoOpSet(("imagenet", "imagenet1k", "ilsvrc2012"), ("images", ".")),
    "caltech101": CoOpSet(
        ("caltech101", "caltech"), ("101_ObjectCategories", "images", "."), classes=100, sizes=(4128, 1649, 2465)
    ),
    "oxford-pets": CoOpSet(
        ("oxfordpets", "oxfordiiitpet", "pets"), ("images", "."), "a photo of a {}, a type of pet.",
        classes=37, sizes=(2944, 736, 3669),
    ),
    "stanford-cars": CoOpSet(
        ("stanfordcars", "cars"), (".", "images"), classes=196, sizes=(6509, 1635, 8041)
    ),
    "oxford-flowers-102": CoOpSet(
        ("oxfordflowers", "oxfordflowers102", "oxfordflower", "flowers102", "flowers"), ("jpg", "images", "."),
        "a photo of a {}, a type of flower.", classes=102, sizes=(4093, 1633, 2463),
    ),
    "food101": CoOpSet(("food101", "food"), ("images", "."), "a photo of {}, a type of food."),
    "fgvc-aircraft": CoOpSet(
        ("fgvcaircraft", "fgvcaircraft2013b", "aircraft"), ("images", "."), "a photo of a {}, a type of aircraft."
    ),
    "sun397": CoOpSet(("sun397", "sun"), ("SUN397", "images", ".")),
    "dtd": CoOpSet(
        ("dtd", "describabletextures"), ("images", "."), "{} texture.", classes=47, sizes=(2820, 1128, 1692)
    ),
    "eurosat": CoOpSet(
        ("eurosat",), ("2750", "images", "."), "a centered satellite photo of {}.",
        classes=10, sizes=(13500, 5400, 8100),
    ),
    "ucf101": CoOpSet(
        ("ucf101", "ucf"), ("UCF-101-midframes", "images", "."), "a photo of a person doing {}.",
        classes=101, sizes=(7639, 1898, 3783),
    ),
}  # fmt: skip


NAMED = NamedSets.of("fewshot", SETS)


def folder_of(data_dir: Path, name: str) -> Path:
    """Return the folder in ``data_dir`` of a data set that is not among ``SETS``. Raises ``UserError`` if none is."""
    root = require_folder(data_dir, "fewshot")
    for folder in subfolders(root):
        if plain(folder.name) == plain(name):
            return folder
    raise UserError(f"{root} has no folder {name}, which shifted names: add it, or name the folder that holds all sets")
