"""Fine-grained visual classification: the five published sets from a folder, or two embedded sets of drawings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.data import Data
from zipeft.api.published_results import read_published
from zipeft.api.published_sets import PublishedSetsTask
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.images.assembly import image_data
from zipeft.images.folders import read_class_folders, read_split_files
from zipeft.images.task import ImageTask
from zipeft.sources.named_sets import NamedSets, PublishedSet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zipeft.api.backbone import ImageBackbone


@dataclass(frozen=True)
class FGVCSet(PublishedSet):
    """A published data set: how many classes it has, and ``bases``, the folders in it that paths in JSON split files
    may be relative to."""

    classes: int
    bases: tuple[str, ...]


SETS = {
    "cub-200-2011": FGVCSet(("cub2002011", "cub200", "cub"), 200, ("images", ".")),
    "nabirds": FGVCSet(("nabirds", "nabirds555"), 555, ("images", ".")),
    "oxford-flowers-102": FGVCSet(
        ("oxfordflower", "oxfordflowers", "oxfordflowers102", "oxford102", "oxford102flowers", "flowers102",
         "102flowers", "vggflowers", "flowers"),
        102, (".", "jpg", "images"),
    ),
    "stanford-dogs": FGVCSet(("stanforddogs", "stanforddog", "dogs120", "dogs"), 120, ("Images", "images", ".")),
    "stanford-cars": FGVCSet(
        ("stanfordcars", "stanfordcar", "cars196", "car196", "cars"), 196, (".", "car_ims", "images")
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FGVC(PublishedSetsTask, ImageTask):
    """Fine-grained visual classification: five published sets (--data-dir), else the embedded icons and typefaces.

    The published sets are CUB-200-2011, NABirds, Oxford Flowers 102, Stanford Dogs and Stanford Cars.
    ``data_dir`` is the folder of one of them or one that holds several, each with train/val/test class folders or with
    the split files train.json, val.json and test.json ({image path: class id}). Without ``data_dir``, drawings from
    icon fonts and words in typefaces stand in, under their own names.
    """

    classes: int | float = 0
    """Take so many classes of each set, the first of a shuffle by ``split_seed``, or such a part of them if it is below
    1; 0 for all."""

    # quick takes few classes, nine patches an image, and small batches, so that few images are many steps. Five methods
    # leave ten pairs to tell apart. For one of them Student's t asks for a difference of 8 standard deviations over
    # seeds from three seeds, and of 2 from six. A prompt costs as much as a patch does: five join, not ten.
    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"image_size": 42, "classes": 0.3},
            protocol={"epochs": 3, "batch_size": 16},
            methods=("linear", "full", "lora", "prompt", "zero_gated"),
            settings={"prompt": {"length": 5}},
            seeds=6,
        ),
        "standard": Preset(task={"image_size": 56}, protocol={"epochs": 6, "batch_size": 32, "trials": 8}),
        "paper": Preset(
            task={"image_size": 224, "resize": "crop"},
            protocol={"epochs": 100, "batch_size": 64, "trials": 8, "augmentation": "crop_flip"},
            seeds=5,
        ),
    }

    named: ClassVar[NamedSets] = NamedSets.of("fgvc", SETS)
    embedded: ClassVar[Sequence[str]] = ("icons", "typefaces")
    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("published.toml"))

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.classes, int) and self.classes != 1
        if self.classes < 0 or (self.classes >= 1 and not whole):
            raise UserError(f"classes is {self.classes}: give a number of 2 or more, a part below 1, or 0 for all")

    def load(self, dataset: str) -> Data:
        dataset = self.known(dataset)
        if self.data_dir:
            return self._load_published(dataset, self._folders()[dataset])
        from zipeft.tasks.fgvc import icons, typefaces

        module = {"icons": icons, "typefaces": typefaces}[dataset]
        return module.load(self.image_size, self.classes, self.split_seed)

    def encoder(self, backbone: ImageBackbone) -> Callable[[Image], Tensor]:
        # Embedded sets are drawn at image_size: nothing is to be cropped.
        task = self if self.data_dir else replace(self, resize="stretch")
        return super(FGVC, task).encoder(backbone)

    def there(self) -> Sequence[str]:
        return list(self._folders()) if self.data_dir else self.embedded

    def _folders(self) -> dict[str, Path]:
        advice = "rename the folder, or use --task folder for a data set of another name"
        return self.named.places(self.data_dir, advice)

    def _load_published(self, name: str, root: Path) -> Data:
        if (root / "train.json").exists() or (root / "test.json").exists():
            listing = read_split_files(root, SETS[name].bases)
        else:
            listing = read_class_folders(root)
        if "all" in listing.splits:
            raise UserError(
                f"{root} has no splits: add train.json and test.json ({{image path: class id}}), "
                "or put the images into train/<class>/ and test/<class>/"
            )
        there, published = len({file.label for file in listing.splits["train"]}), SETS[name].classes
        if there != published:
            listing.notes.append(f"{counted(there, 'class', 'classes')} where the published set has {published}")
        return image_data(name, listing, split_seed=self.split_seed, skip_broken=self.skip_broken, classes=self.classes)
