"""Few-shot learning with named classes: the 11 data sets of CoOp from a folder, or embedded icons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.published_results import read_published
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError, require
from zipeft.objectives.matching import Matching
from zipeft.tasks.coop.base import NamedClassesTask
from zipeft.tasks.coop.presets import METHODS, SETTINGS, SPACES
from zipeft.tasks.coop.sets import folder_of

DATASET = re.compile(r"(.+)-([1-9]\d*)shot")


@dataclass(frozen=True)
class FewShot(NamedClassesTask):
    """Few-shot learning with CLIP: CoOp's 11 data sets (--data-dir), else icons of concepts that it never saw.

    ``data_dir`` holds the folders of some of the 11, or is one of them: ImageNet, Caltech101, Oxford Pets, Stanford
    Cars, Oxford Flowers 102, Food-101, FGVC-Aircraft, SUN397, DTD, EuroSAT and UCF101, each with CoOp's split file
    ``split_zhou_<Name>.json``, or as ImageNet and FGVC-Aircraft come. Each seed draws its shots of every class from the
    training images, and as many, but at most four, from the validation images: with a split file, those that the same
    seed draws in CoOp. Lists of them in the folder take the place of the draw (``split_fewshot/shot_16-seed_1.json``,
    or ``fewshot_train_16shot_seed1.tsv``).

    Images go through the model's own preprocessing, in training too: CoOp also crops and flips them at random.
    """

    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of training images a class: each makes a data set, "<set>-<n>shot". What there is, where a class has
    fewer."""

    shifted: tuple[str, ...] = ()
    """Folders in ``data_dir`` with the same classes in other domains (ImageNet-V2, ImageNet-Sketch): tested on as well,
    never selected on."""

    unrecorded: ClassVar[tuple[str, ...]] = (*NamedClassesTask.unrecorded, "shots")  # a data set's name has its own

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"shots": (1, 4)},
            protocol={"epochs": 20, "batch_size": 32},
            methods=("linear", *METHODS),
            settings=SETTINGS,
            spaces=SPACES,
        ),
        # Icons have 6.7 training drawings a concept on average: 16 shots would be those of 8.
        "standard": Preset(
            task={"shots": (1, 2, 4, 8)},
            protocol={"epochs": 20, "batch_size": 32, "trials": 4},
            methods=("linear", *METHODS),
            spaces=SPACES,
        ),
        "paper": Preset(
            protocol={"epochs": 200, "batch_size": 32, "trials": 4, "augmentation": "crop_flip"}, spaces=SPACES
        ),
    }

    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("fewshot.toml"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.shots), "shots is empty: give numbers of images a class, such as 1,4,16")
        require(min(self.shots) >= 1, f"shots has {min(self.shots)}: give numbers of images a class, 1 or more")
        require(not self.shifted or self.data_dir is not None, "shifted names folders in --data-dir: give that too")

    def datasets(self) -> Sequence[str]:
        return tuple(f"{name}-{shots}shot" for name in super().datasets() for shots in dict.fromkeys(self.shots))

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.coop.shots import few_shots

        name, shots = _parts(dataset)
        name = self.find(name, super().datasets())
        return few_shots(self.pool(name), f"{name}-{shots}shot", shots)

    def objective(self, dataset: str, classes: Sequence[str]) -> Matching:
        return Matching(self.templates(_parts(dataset)[0]))

    def shifted_folders(self) -> dict[str, Path]:
        return {name: folder_of(self.data_dir, name) for name in self.shifted} if self.data_dir else {}


def _parts(dataset: str) -> tuple[str, int]:
    """Return the data set in full and the number of shots that a name has: "dtd-4shot" has "dtd" and 4."""
    if (match := DATASET.fullmatch(dataset)) is None:
        raise UserError(f"no data set {dataset!r}: give its name and the number of shots, such as dtd-4shot")
    return match[1], int(match[2])
