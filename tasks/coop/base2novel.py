"""Base-to-novel generalisation: trained on half of the classes, tested on both halves (CoCoOp, arXiv 2203.05557)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from zipeft.api.data import Data
from zipeft.api.task import Preset, PublishedTable, Summary
from zipeft.errors import UserError, require
from zipeft.objectives.matching import BaseToNovel, harmonic_mean
from zipeft.tasks.coop.base import NamedClassesTask
from zipeft.tasks.coop.presets import METHODS, SETTINGS, SPACES

THREE_SETS_TABLE = PublishedTable(
    title="CLIP ViT-B/16, 16 shots: accuracy on base and novel classes and their harmonic mean (%)",
    source=(
        "LLaMA-Adapter (arXiv 2303.16199v3) Table 14, of which zero-init is its own method; the average is over these "
        "three data sets, and its HM is the mean of theirs"
    ),
    columns=tuple(
        f"{name} {score}"
        for name in ("imagenet", "caltech101", "oxford-flowers-102", "average")
        for score in ("base", "novel", "HM")
    ),
    rows={
        "CLIP, zero-shot": (
            "72.43", "68.14", "70.22", "96.84", "94.00", "95.40", "72.08", "77.80", "74.83", "80.45", "79.98", "80.15"
        ),
        "CoOp": (
            "76.47", "67.88", "71.92", "98.00", "89.81", "93.73", "97.60", "59.67", "74.06", "90.69", "72.45", "79.90"
        ),
        "CoCoOp": (
            "75.98", "70.43", "73.10", "97.96", "93.81", "95.84", "94.87", "71.75", "81.71", "89.60", "78.66", "83.55"
        ),
        "MaPLe": (
            "76.66", "70.54", "73.47", "97.74", "94.36", "96.02", "95.92", "72.46", "82.56", "90.11", "79.12", "84.02"
        ),
        "Zero-init (LLaMA-Adapter)": (
            "76.70", "71.00", "73.74", "98.10", "94.53", "96.28", "96.00", "74.67", "84.00", "90.27", "80.07", "84.67"
        ),
    },
)  # fmt: skip

ELEVEN_SETS_TABLE = PublishedTable(
    title="CLIP ViT-B/16, 16 shots: averages over the 11 data sets (%)",
    source=(
        "As reprinted in the repositories of MaPLe and PromptSRC, and a list of the community; HM is the harmonic mean "
        "of the two averages. IVLP is given as either repository has it; PromptKD also learns from unlabelled images"
    ),
    columns=("base", "novel", "HM"),
    rows={
        "CLIP, zero-shot": ("69.34", "74.22", "71.70"),
        "CoOp": ("82.69", "63.22", "71.66"),
        "CoCoOp": ("80.47", "71.69", "75.83"),
        "ProDA": ("81.56", "72.30", "76.65"),
        "KgCoOp": ("80.73", "73.60", "77.00"),
        "Deep vision prompts": ("80.24", "73.43", "76.68"),
        "Deep language prompts": ("81.72", "73.81", "77.56"),
        "IVLP (MaPLe, 5 epochs)": ("82.15", "74.07", "77.90"),
        "IVLP (PromptSRC, 20 epochs)": ("84.21", "71.79", "77.51"),
        "MaPLe": ("82.28", "75.14", "78.55"),
        "PromptSRC": ("84.26", "76.10", "79.97"),
        "MMA": ("83.20", "76.80", "79.87"),
        "PromptKD": ("86.96", "80.73", "83.73"),
    },
)

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
        "paper": Preset(protocol={"epochs": 50, "batch_size": 32, "trials": 4}, methods=METHODS, spaces=SPACES),
    }

    published: ClassVar[Sequence[PublishedTable]] = (THREE_SETS_TABLE, ELEVEN_SETS_TABLE)
    summaries: ClassVar[Sequence[Summary]] = (OF_AVERAGES,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.shots >= 1, f"shots is {self.shots}: give a number of images a class, 1 or more")

    def datasets(self) -> Sequence[str]:
        return tuple(self.taken())

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
