"""Any labelled folder of images as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.task import Preset
from zipeft.errors import UserError, require
from zipeft.images.assembly import image_data
from zipeft.images.folders import read_class_folders
from zipeft.images.task import ImageTask
from zipeft.sources.folder import composed, require_folder


@dataclass(frozen=True)
class Folder(ImageTask):
    """Any labelled folder of images (--data-dir): <class>/*.jpg, or train, val and test folders of such.

    A folder without splits is split 60/20/20 by class, seeded; without ``val``, 10% of ``train`` is its place. All
    kinds of images that Pillow decodes are taken. The data set's name is the folder's.
    """

    train_examples: int = 0
    """Train on so many images, chosen by class with ``split_seed``; 0 for all."""

    validation_examples: int = 0
    """Validate on so many images, chosen alike; 0 for all."""

    test_examples: int = 0
    """Test on so many images, chosen alike; 0 for all."""

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"image_size": 112},
            protocol={"epochs": 5, "batch_size": 32},
            methods=("linear", "full", "lora", "prompt", "zero_gated", "zero_gated_random"),
        ),
        "standard": Preset(task={"image_size": 224}, protocol={"epochs": 20, "batch_size": 64, "trials": 4}),
        "paper": Preset(
            task={"image_size": 224, "resize": "crop"},
            protocol={"epochs": 100, "batch_size": 64, "trials": 8},
            seeds=5,
        ),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for split, count in self._limits().items():
            require(count >= 0, f"{split}_examples is {count}: give 1 or more, or 0 for all")

    def datasets(self) -> Sequence[str]:
        return (composed(require_folder(self.data_dir, "folder").name),)

    def load(self, dataset: str) -> Data:
        (name,) = self.datasets()
        if composed(dataset) != name:
            raise UserError(f"the data folder is {name!r}, not {dataset!r}: check --data-dir")
        listing = read_class_folders(require_folder(self.data_dir, "folder"))
        return image_data(
            name, listing, split_seed=self.split_seed, skip_broken=self.skip_broken, limits=self._limits()
        )

    def _limits(self) -> dict[str, int]:
        return {"train": self.train_examples, "validation": self.validation_examples, "test": self.test_examples}
