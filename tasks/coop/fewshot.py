"""Few-shot learning with named classes: the 11 data sets of CoOp from a folder, or embedded icons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError, require
from zipeft.objectives.matching import Matching
from zipeft.tasks.coop.base import NamedClassesTask
from zipeft.tasks.coop.presets import METHODS, SETTINGS, SPACES
from zipeft.tasks.coop.sets import folder_of

DATASET = re.compile(r"(.+)-([1-9]\d*)shot")

RN50_TABLE = PublishedTable(
    title="CLIP RN50: mean test accuracy (%) over the 11 data sets, by the number of shots; without any it is 58.89",
    source=(
        "Means of the data sets' results in the experiment log of Tip-Adapter (arXiv 2111.03930): another model than "
        "above. On ImageNet, with 16 shots, CLIP-Adapter has 63.59 and Tip-Adapter-F 65.51; without any it is 60.32"
    ),
    columns=("1", "2", "4", "8", "16"),
    rows={
        "CLIP-Adapter": ("62.67", "65.55", "68.61", "71.40", "74.44"),
        "Tip-Adapter": ("62.33", "64.62", "66.54", "68.50", "70.32"),
        "Tip-Adapter-F": ("64.60", "66.65", "69.67", "72.45", "75.83"),
    },
)

VIT_TABLE = PublishedTable(
    title="CLIP ViT-B/16, 16 shots: test accuracy (%)",
    source=(
        "As reprinted in the RVP paper, Table 8; the mean of these ten data sets is computed here "
        "(that of the paper is over other data sets)"
    ),
    columns=(
        "fgvc-aircraft", "caltech101", "stanford-cars", "dtd", "eurosat", "oxford-flowers-102", "food101",
        "oxford-pets", "sun397", "ucf101", "mean",
    ),
    rows={
        "CoOp": ("43.2", "95.8", "82.9", "69.7", "85.0", "96.8", "84.2", "92.0", "74.9", "83.1", "80.76"),
        "CoCoOp": ("33.3", "95.1", "72.3", "63.7", "73.6", "89.1", "87.4", "93.4", "72.6", "77.2", "75.77"),
        "CLIP-Adapter": ("34.2", "94.9", "74.0", "59.4", "71.4", "92.9", "87.1", "92.3", "74.2", "80.2", "76.06"),
        "Tip-Adapter-F": ("44.6", "95.7", "82.3", "70.8", "85.9", "96.2", "86.8", "92.6", "76.0", "83.9", "81.48"),
        "TaskRes": ("44.9", "95.8", "83.5", "71.5", "82.7", "97.5", "86.9", "92.4", "76.1", "84.0", "81.53"),
        "LP++": ("42.1", "95.8", "80.8", "71.9", "85.5", "96.3", "87.2", "92.6", "76.0", "83.9", "81.21"),
    },
)  # fmt: skip


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
        "paper": Preset(protocol={"epochs": 200, "batch_size": 32, "trials": 4}, spaces=SPACES),
    }

    published: ClassVar[Sequence[PublishedTable]] = (VIT_TABLE, RN50_TABLE)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.shots), "shots is empty: give numbers of images a class, such as 1,4,16")
        require(min(self.shots) >= 1, f"shots has {min(self.shots)}: give numbers of images a class, 1 or more")
        require(not self.shifted or self.data_dir is not None, "shifted names folders in --data-dir: give that too")

    def datasets(self) -> Sequence[str]:
        return tuple(f"{name}-{shots}shot" for name in self.taken() for shots in dict.fromkeys(self.shots))

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.coop.shots import few_shots

        name, shots = _parts(dataset)
        name = self.known(name)
        return few_shots(self.pool(name), f"{name}-{shots}shot", shots)

    def objective(self, dataset: str, classes: Sequence[str]) -> Matching:
        return Matching(self.templates(_parts(dataset)[0]))

    def shifted_folders(self) -> dict[str, Path]:
        return {name: folder_of(self.data_dir, name) for name in self.shifted}


def _parts(dataset: str) -> tuple[str, int]:
    """Return the data set in full and the number of shots that a name has: "dtd-4shot" has "dtd" and 4."""
    if (match := DATASET.fullmatch(dataset)) is None:
        raise UserError(f"no data set {dataset!r}: give its name and the number of shots, such as dtd-4shot")
    return match[1], int(match[2])
