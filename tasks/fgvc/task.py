"""Fine-grained visual classification: the five published sets from a folder, or two embedded sets of drawings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from zipeft.api.data import Data
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.images.assembly import image_data
from zipeft.images.folders import read_class_folders, read_split_files
from zipeft.images.task import ImageTask
from zipeft.sources.named_sets import NamedSets

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zipeft.api.backbone import ImageBackbone

EMBEDDED = ("icons", "typefaces")


class PublishedSet(NamedTuple):
    """A published data set: how many classes it has, the names that its folder goes by (see ``NamedSets``), and the
    folders in it that paths in JSON split files may be relative to (as for any set: itself)."""

    classes: int
    folders: tuple[str, ...]
    bases: tuple[str, ...]


PUBLISHED_SETS = {
    "cub-200-2011": PublishedSet(200, ("cub2002011", "cub200", "cub"), ("images", ".")),
    "nabirds": PublishedSet(555, ("nabirds", "nabirds555"), ("images", ".")),
    "oxford-flowers-102": PublishedSet(
        102,
        ("oxfordflower", "oxfordflowers", "oxfordflowers102", "oxford102", "oxford102flowers", "flowers102",
         "102flowers", "vggflowers", "flowers"),
        (".", "jpg", "images"),
    ),
    "stanford-dogs": PublishedSet(120, ("stanforddogs", "stanforddog", "dogs120", "dogs"), ("Images", "images", ".")),
    "stanford-cars": PublishedSet(
        196, ("stanfordcars", "stanfordcar", "cars196", "car196", "cars"), (".", "car_ims", "images")
    ),
}  # fmt: skip

NAMED = NamedSets("fgvc", {name: published.folders for name, published in PUBLISHED_SETS.items()})

VPT_TABLE = PublishedTable(
    title="FGVC, ViT-B/16 pretrained on ImageNet-21k: test accuracy (%)",
    source=(
        "VPT (arXiv 2203.12119) Table 1 family, as reprinted in DA-VPT and PACE; LoRA from PACE; SSF with the AugReg "
        "checkpoint. LLaMA-Adapter, which introduced the zero-initialised gate, reports no FGVC."
    ),
    columns=(
        "CUB-200-2011", "NABirds", "Oxford Flowers 102", "Stanford Dogs", "Stanford Cars", "mean", "params (M)",
    ),
    rows={
        "Full": ("87.3", "82.7", "98.8", "89.4", "84.5", "88.54", "85.98"),
        "Linear": ("85.3", "75.9", "97.9", "86.2", "51.3", "79.32", "0.18"),
        "Adapter": ("87.1", "84.3", "98.5", "89.8", "68.6", "85.67", "0.41"),
        "Bias": ("88.4", "84.2", "98.8", "91.2", "79.4", "88.41", "0.28"),
        "AdaptFormer": ("87.4", "84.8", "99.0", "90.7", "81.0", "88.58", "1.54"),
        "VPT-shallow": ("86.7", "78.8", "98.4", "90.7", "68.7", "84.62", "0.25"),
        "VPT-deep": ("88.5", "84.2", "99.0", "90.2", "83.6", "89.11", "0.85"),
        "LoRA": ("88.3", "85.6", "99.2", "91.0", "83.2", "89.5", "0.44"),
        "SSF": ("89.5", "85.7", "99.6", "89.6", "89.2", "90.72", "0.39"),
    },
)  # fmt: skip


@dataclass(frozen=True)
class FGVC(ImageTask):
    """Fine-grained visual classification: five published sets (--data-dir), else the embedded icons and typefaces.

    The published sets are CUB-200-2011, NABirds, Oxford Flowers 102, Stanford Dogs and Stanford Cars.
    ``data_dir`` is the folder of one of them or one that holds several, each with train/val/test class folders or with
    the split files train.json, val.json and test.json ({image path: class id}). Without ``data_dir``, drawings from
    icon fonts and words in typefaces stand in, under their own names.
    """

    sets: tuple[str, ...] = ()
    """Names of the data sets to take; none for all there are."""

    classes: int = 0
    """Take so many classes of each set, the first of a shuffle by ``split_seed``; 0 for all."""

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"image_size": 56, "classes": 40},
            protocol={"epochs": 6, "batch_size": 32},
            methods=("linear", "full", "lora", "prompt", "zero_gated", "zero_gated_random"),
        ),
        "standard": Preset(task={"image_size": 56}, protocol={"epochs": 6, "batch_size": 32, "trials": 8}),
        "paper": Preset(
            task={"image_size": 224, "resize": "crop"},
            protocol={"epochs": 100, "batch_size": 64, "trials": 8},
            seeds=5,
        ),
    }

    published: ClassVar[Sequence[PublishedTable]] = (VPT_TABLE,)

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "sets")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 0 or self.classes == 1:
            raise UserError(f"classes is {self.classes}: give 2 or more, or 0 for all")

    def datasets(self) -> Sequence[str]:
        there = list(self._folders()) if self.data_dir else list(EMBEDDED)
        if not self.sets:
            return tuple(there)
        return tuple(dict.fromkeys(self._known(name, there) for name in self.sets))

    def load(self, dataset: str) -> Data:
        dataset = self._known(dataset, self.datasets())
        if self.data_dir:
            return self._load_published(dataset, self._folders()[dataset])
        from zipeft.tasks.fgvc import icons, typefaces

        module = {"icons": icons, "typefaces": typefaces}[dataset]
        return module.load(self.image_size, self.classes, self.split_seed)

    def encoder(self, backbone: ImageBackbone) -> Callable[[Image], Tensor]:
        # Embedded sets are drawn at image_size: nothing is to be cropped.
        task = self if self.data_dir else replace(self, resize="squash")
        return super(FGVC, task).encoder(backbone)

    def _known(self, name: str, there: Sequence[str]) -> str:
        elsewhere = "" if self.data_dir else "name its folder with --data-dir"
        return NAMED.known(name, there, self.data_dir, elsewhere=elsewhere)

    def _folders(self) -> dict[str, Path]:
        advice = "rename the folder, or use --task folder for a data set of another name"
        return NAMED.places(self.data_dir, advice)

    def _load_published(self, name: str, root: Path) -> Data:
        if (root / "train.json").exists() or (root / "test.json").exists():
            listing = read_split_files(root, PUBLISHED_SETS[name].bases)
        else:
            listing = read_class_folders(root)
        if "all" in listing.splits:
            raise UserError(
                f"{root} has no splits: add train.json and test.json ({{image path: class id}}), "
                "or put the images into train/<class>/ and test/<class>/"
            )
        there, published = len({file.label for file in listing.splits["train"]}), PUBLISHED_SETS[name].classes
        if there != published:
            listing.notes.append(f"{counted(there, 'class', 'classes')} where the published set has {published}")
        settings = {"split_seed": self.split_seed, "skip_broken": self.skip_broken, "classes": self.classes}
        return image_data(name, listing, **settings)
