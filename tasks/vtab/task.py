"""VTAB-1k: its 19 sets from a folder or from the hub, or five embedded sets that stand in for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.published_sets import HubSetsTask
from zipeft.api.task import Average, Preset, PublishedTable
from zipeft.errors import require
from zipeft.images.task import ImageTask
from zipeft.sources.named_sets import NamedSets
from zipeft.tasks.vtab.data import Sizes
from zipeft.tasks.vtab.embedded import EMBEDDED
from zipeft.tasks.vtab.published import AVERAGES, TABLES
from zipeft.tasks.vtab.sets import NAMED, SETS


@dataclass(frozen=True)
class VTAB(HubSetsTask, ImageTask):
    """VTAB-1k: 800 images to train on, 200 to choose by; 19 published sets (--data-dir, source=hub), else embedded.

    ``data_dir`` is the folder of one set or one that holds several, in the layout in circulation (train800.txt,
    val200.txt, test.txt and images, which are JPEG copies), or as tar or parquet shards, or as torchvision has them;
    with the file of dSprites in it, two of the sets are read from that. Only the layout in circulation has VTAB's own
    1,000 images. Without ``data_dir``, CIFAR-10's test images, digits of MNIST, dSprites drawn again, and drawn scenes
    with objects to be counted stand in, under their own names; nothing stands in for the specialised group. The
    hub's are CLIP benchmark's copies.
    """

    test_examples: int = 0
    """Take so many test images of each set, drawn by ``split_seed``; 0 for all."""

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"image_size": 42, "test_examples": 300},
            protocol={"epochs": 1, "batch_size": 16},
            methods=("linear", "full", "lora", "prompt", "zero_gated"),
        ),
        "standard": Preset(
            task={"image_size": 42, "test_examples": 500},
            protocol={"epochs": 2, "batch_size": 16, "trials": 4},
        ),
        "paper": Preset(
            task={"image_size": 224},
            protocol={"epochs": 100, "batch_size": 64, "precision": "bf16", "trials": 8},
            seeds=5,
        ),
    }

    named: ClassVar[NamedSets] = NAMED
    embedded: ClassVar[Sequence[str]] = EMBEDDED
    published: ClassVar[Sequence[PublishedTable]] = TABLES
    averages: ClassVar[Sequence[Average]] = AVERAGES

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.test_examples >= 0, f"test_examples is {self.test_examples}: give a number, or 0 for all")

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.vtab import embedded, places, shards

        name, sizes = self.known(dataset), Sizes(self.split_seed, self.test_examples)
        if self.data_dir:
            place = places.places(self.data_dir)[name]
            return places.load(name, place, sizes, skip_broken=self.skip_broken)
        if self.source:
            return shards.load(name, *shards.hub_folder(name), sizes, skip_broken=self.skip_broken)
        return embedded.load(name, sizes)

    def fetch(self, folder: Path | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        from zipeft.tasks.vtab import fetch as vtab_fetch

        known = [self.find(name, (*EMBEDDED, *SETS)) for name in names]
        wanted = list(dict.fromkeys(known)) or [*EMBEDDED, *SETS]
        yield from vtab_fetch.fetch(folder, wanted, asked=bool(names))

    def there(self) -> Sequence[str]:
        from zipeft.tasks.vtab import places

        return list(places.places(self.data_dir)) if self.data_dir else super().there()

    def on_hub(self) -> Sequence[str]:
        return [name for name in SETS if SETS[name].hub]
