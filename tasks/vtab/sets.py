"""The 19 sets of VTAB-1k (Zhai et al. 2019, arXiv 1910.04867): classes, sources, splits, and how labels are made."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zipeft.sources.named_sets import NamedSets, PublishedSet, plain

TRAIN, VALIDATION = 800, 200
"""How many images a set of VTAB-1k has to train on and to choose by."""

GROUPS = ("natural", "specialised", "structured")


# --- labels that VTAB makes -------------------------------------------------------------------------------------------


def count_label(objects: int) -> int:
    """Return the class of a CLEVR scene by its number of objects, 3 to 10."""
    return objects - 3


def clevr_distance_label(distance: float) -> int:
    """Return the class of a CLEVR scene by the depth of its nearest object, the third of CLEVR's pixel coordinates."""
    return bisect_left((8.0, 8.5, 9.0, 9.5, 10.0), distance)


def kitti_distance_label(distances: Iterable[float]) -> int:
    """Return the class of a KITTI picture by the distances, in metres, of its cars, vans and trucks; 3 for none."""
    nearest = min(distances, default=None)
    return 3 if nearest is None else bisect_left((8.0, 20.0), nearest)


def sixteenth(index: int, values: int) -> int:
    """Return the class, of 16, of the factor of dSprites that has its value number ``index`` of ``values``."""
    return index * 16 // values


def location_label(index: int) -> int:
    return sixteenth(index, 32)


def orientation_label(index: int) -> int:
    return sixteenth(index, 40)


# --- the sets ---------------------------------------------------------------------------------------------------------


def _tail(percent: int) -> str:
    return f"train: the first 800; validation: the first 200 behind {percent} % of train; test: the official one"


NATIVE = "train and validation: the first 800 and 200 of the official ones; test: the official one"

ONE_SPLIT = "train and validation: the first 800, and the first 200 behind {}, of all images; test: the last {}"


@dataclass(frozen=True)
class VTABSet(PublishedSet):
    """A set of VTAB-1k.

    ``tfds`` is the TensorFlow data set whose order VTAB's splits refer to, in the version of VPT's setup (VTAB itself
    names kitti 3.1.0); ``split`` says how it is split, ``test`` how many test images that gives. ``hub`` is a
    repository of CLIP benchmark on the Hugging Face hub, which has training and test images but not VTAB's validation
    images, and ``revision`` its commit, empty where none is on record (then a run's source names the one it got);
    ``torchvision`` is the class there that has the official test images. ``label`` makes the class of what the
    source has, where VTAB defines it; with ``raw``, the hub's labels are not classes yet either. ``folders`` are the
    names that its folder goes by (see ``NamedSets``), the first of them that of the layout in circulation.
    ``licence`` is empty where none was found that the authors state.
    """

    group: str
    classes: int
    test: int
    tfds: str
    split: str
    hub: str = ""
    torchvision: str = ""
    revision: str = ""
    label: Callable[[Any], int] | None = None
    raw: bool = False
    licence: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its folder, and that of a copy of the hub's repository."""
        return (*self.folders, *([plain(self.hub.rpartition("/")[2])] if self.hub else []))


def _hub(name: str) -> str:
    return f"clip-benchmark/wds_vtab-{name}"


SETS = {
    # natural
    "caltech101": VTABSet(
        ("caltech101", "caltech"), "natural", 102, 6084, "caltech101:3.0.1", _tail(90), _hub("caltech101"),
        licence="CC BY 4.0",
    ),
    "cifar100": VTABSet(
        ("cifar", "cifar100", "cifar100python"), "natural", 100, 10_000, "cifar100:3.0.2", _tail(90),
        _hub("cifar100"), "CIFAR100",
    ),
    "dtd": VTABSet(("dtd",), "natural", 47, 1880, "dtd:3.0.1", NATIVE, _hub("dtd"), "DTD"),
    "flowers102": VTABSet(
        ("oxfordflowers102", "flowers102", "oxfordflowers", "flowers"), "natural", 102, 6149,
        "oxford_flowers102:2.1.1", NATIVE, _hub("flowers"), "Flowers102",
    ),
    "pets": VTABSet(
        ("oxfordiiitpet", "oxfordpets", "pets"), "natural", 37, 3669, "oxford_iiit_pet:3.2.0", _tail(80),
        _hub("pets"), "OxfordIIITPet", licence="CC BY-SA 4.0",
    ),
    "svhn": VTABSet(
        ("svhn", "svhncropped"), "natural", 10, 26_032, "svhn_cropped:3.0.0", _tail(90), _hub("svhn"), "SVHN",
        licence="for non-commercial use",
    ),
    "sun397": VTABSet(("sun397",), "natural", 397, 21_750, "sun397/tfds:4.0.0", NATIVE),
    # specialised
    "camelyon": VTABSet(
        ("patchcamelyon", "camelyon", "pcam"), "specialised", 2, 32_768, "patch_camelyon:2.0.0", NATIVE, _hub("pcam"),
        revision="502695fe1a141108650e3c5b91c8b5e0ff84ed49", licence="CC0",
    ),
    "eurosat": VTABSet(
        ("eurosat",), "specialised", 10, 5400, "eurosat/rgb:2.0.0", ONE_SPLIT.format("60 %", "20 %"), _hub("eurosat"),
        licence="MIT",
    ),
    "resisc45": VTABSet(
        ("resisc45", "resisc"), "specialised", 45, 6300, "resisc45:3.0.0", ONE_SPLIT.format("60 %", "20 %"),
        _hub("resisc45"),
    ),
    "retinopathy": VTABSet(
        ("diabeticretinopathy", "retinopathy", "diabeticretinopathydetection"), "specialised", 5, 42_670,
        "diabetic_retinopathy_detection/btgraham-300:3.0.0", NATIVE, _hub("diabetic_retinopathy"),
    ),
    # structured
    "clevr-count": VTABSet(
        ("clevrcount", "clevrcountall"), "structured", 8, 15_000, "clevr:3.1.0",
        _tail(90).replace("the official one", "the official validation data"), _hub("clevr_count_all"),
        revision="8b5dce4d5393a04fb58b9261b22a881b02e379b1", label=count_label, licence="CC BY 4.0",
    ),
    "clevr-distance": VTABSet(
        ("clevrdist", "clevrdistance", "clevrclosestobjectdistance"), "structured", 6, 15_000, "clevr:3.1.0",
        _tail(90).replace("the official one", "the official validation data"), _hub("clevr_closest_object_distance"),
        revision="ec9c04224a95836ca0344a6000ec8d8bc8a6d4f2", label=clevr_distance_label, licence="CC BY 4.0",
    ),
    "dmlab": VTABSet(("dmlab",), "structured", 6, 22_735, "dmlab:2.0.1", NATIVE, _hub("dmlab")),
    "kitti-distance": VTABSet(
        ("kitti", "kittidistance", "kitticlosestvehicledistance"), "structured", 4, 711, "kitti:3.2.0", NATIVE,
        _hub("kitti_closest_vehicle_distance"), label=kitti_distance_label, licence="CC BY-NC-SA 3.0",
    ),
    "dsprites-location": VTABSet(
        ("dspritesloc", "dspriteslocation", "dspriteslabelxposition"), "structured", 16, 73_728, "dsprites:2.0.0",
        ONE_SPLIT.format("80 %", "10 %"), _hub("dsprites_label_x_position"), label=location_label, raw=True,
        licence="Apache-2.0",
    ),
    "dsprites-orientation": VTABSet(
        ("dspritesori", "dspritesorientation", "dspriteslabelorientation"), "structured", 16, 73_728,
        "dsprites:2.0.0", ONE_SPLIT.format("80 %", "10 %"), _hub("dsprites_label_orientation"),
        label=orientation_label, raw=True, licence="Apache-2.0",
    ),
    "smallnorb-azimuth": VTABSet(
        ("smallnorbazi", "smallnorbazimuth", "smallnorblabelazimuth"), "structured", 18, 12_150, "smallnorb:2.0.0",
        "train: the first 800; validation: the first 200 of the official test data; test: the second half of those",
        _hub("smallnorb_label_azimuth"), licence="for research; not to be sold",
    ),
    "smallnorb-elevation": VTABSet(
        ("smallnorbele", "smallnorbelevation", "smallnorblabelelevation"), "structured", 9, 12_150, "smallnorb:2.0.0",
        "train: the first 800; validation: the first 200 of the official test data; test: the second half of those",
        _hub("smallnorb_label_elevation"), licence="for research; not to be sold",
    ),
}  # fmt: skip


NAMED = NamedSets.of("vtab", SETS)
