"""Base-to-novel generalisation: trained on half of the classes, tested on both halves (CoCoOp, arXiv 2203.05557)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.published_results import read_published
from zipeft.api.task import Preset, PublishedTable, Summary
from zipeft.errors import UserError, require
from zipeft.objectives.matching import BaseToNovel, harmonic_mean
from zipeft.tasks.coop.base import NamedClassesTask
from zipeft.tasks.coop.presets import METHODS, SETTINGS, SPACES

OF_AVERAGES = Summary(
    "harmonic mean of the averages",
    "The harmonic mean of the averages takes the two accuracies' averages over the data sets first, as the published "
    "averages over 11 data sets do; the ranked mean is that of the data sets' own harmonic means.",
    ("base_accuracy", "novel_accuracy"),
    lambda means: harmonic_mean(means["base_accuracy"], means["novel_accuracy"]),
)


@dataclass(frozen=True)
class BaseToNovelTask(NamedClassesTask):
    """Base-to-novel generalisation with CLIP: CoOp's 11 data sets (--data-dir), else icons that it never saw.

    A method learns from a few shots of the first half of the classes. Test images of these base classes are matched
    with the base classes' texts, and those of the other, novel classes with the novel classes' texts; the harmonic mean
    of the two accuracies ranks. Training and validation data are of base classes alone. ``data_dir`` is as in
    ``fewshot``, as is what seeds draw.

    Images go through the model's own preprocessing, in training too: CoOp also crops and flips them at random.
    """

    shots: int = 16
    """Training images of each base class; what there is, where a class has fewer."""

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 20, "batch_size": 32}, methods=METHODS, settings=SETTINGS, spaces=SPACES),
        "standard": Preset(protocol={"epochs": 30, "batch_size": 32, "trials": 4}, methods=METHODS, spaces=SPACES),
        "paper": Preset(
            protocol={"epochs": 50, "batch_size": 32, "trials": 4, "augmentation": "crop_flip"},
            methods=METHODS,
            spaces=SPACES,
        ),
    }

    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("base2novel.toml"))
    summaries: ClassVar[Sequence[Summary]] = (OF_AVERAGES,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.shots >= 1, f"shots is {self.shots}: give a number of images a class, 1 or more")

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.coop.shots import few_shots

        name = self.known(dataset)
        pool = self.pool(name)
        classes = tuple(pool.data.classes)
        if len(classes) < 4:
            raise UserError(f"{name} has {len(classes)} classes: base and novel ones need two each")
        return few_shots(pool, name, self.shots, self.objective(name, classes).base)

    def objective(self, dataset: str, classes: Sequence[str]) -> BaseToNovel:
        return BaseToNovel(self.templates(dataset), tuple(classes))
