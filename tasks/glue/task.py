"""GLUE: its nine sets from a folder or from the hub, or four embedded sets of texts that stand in for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zipeft.api.data import Data
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import require
from zipeft.tasks.glue import sets as glue_sets
from zipeft.tasks.glue.sets import NAMED, REPOSITORY, REVISION, SETS
from zipeft.text.task import TextTask

if TYPE_CHECKING:
    from zipeft.api.objective import Objective

EMBEDDED = ("movie-sentiment", "shop-sentiment", "review-ratings", "claims")

COLUMNS = ("MNLI", "SST-2", "MRPC", "CoLA", "QNLI", "QQP", "RTE", "STS-B", "mean", "params (M)")

SOURCE = (
    "LoRA (arXiv 2106.09685) Table 2: the median of five seeds, each at its best epoch on the dev set; accuracy, on "
    "MNLI over matched and mismatched together, Matthews correlation on CoLA, Pearson correlation on STS-B"
)

LORA_TABLES = (
    PublishedTable(
        title="GLUE, RoBERTa-base: dev set (%)",
        source=f"{SOURCE}; MRPC, RTE and STS-B of LoRA start from a checkpoint tuned on MNLI; * from earlier work",
        columns=COLUMNS,
        rows={
            "FT*": ("87.6", "94.8", "90.2", "63.6", "92.8", "91.9", "78.7", "91.2", "86.4", "125.0"),
            "BitFit*": ("84.7", "93.7", "92.7", "62.0", "91.8", "84.0", "81.5", "90.8", "85.2", "0.1"),
            "AdptD* (0.3M)": ("87.1", "94.2", "88.5", "60.8", "93.1", "90.2", "71.5", "89.7", "84.4", "0.3"),
            "AdptD* (0.9M)": ("87.3", "94.7", "88.4", "62.6", "93.0", "90.6", "75.9", "90.3", "85.4", "0.9"),
            "LoRA": ("87.5", "95.1", "89.7", "63.4", "93.3", "90.8", "86.6", "91.5", "87.2", "0.3"),
        },
    ),
    PublishedTable(
        title="GLUE, RoBERTa-large: dev set (%)",
        source=(
            f"{SOURCE}; MRPC, RTE and STS-B without a dagger start from a checkpoint tuned on MNLI; † in a setting "
            "like that of Houlsby et al. 2019; * from earlier work"
        ),
        columns=COLUMNS,
        rows={
            "FT*": ("90.2", "96.4", "90.9", "68.0", "94.7", "92.2", "86.6", "92.4", "88.9", "355.0"),
            "LoRA": ("90.6", "96.2", "90.9", "68.2", "94.9", "91.6", "87.4", "92.6", "89.0", "0.8"),
            "AdptP† (3.0M)": ("90.2", "96.1", "90.2", "68.3", "94.8", "91.9", "83.8", "92.1", "88.4", "3.0"),
            "AdptP† (0.8M)": ("90.5", "96.6", "89.7", "67.8", "94.8", "91.7", "80.1", "91.9", "87.9", "0.8"),
            "AdptH† (6.0M)": ("89.9", "96.2", "88.7", "66.5", "94.7", "92.1", "83.4", "91.0", "87.8", "6.0"),
            "AdptH† (0.8M)": ("90.3", "96.3", "87.7", "66.3", "94.7", "91.5", "72.9", "91.5", "86.4", "0.8"),
            "LoRA†": ("90.6", "96.2", "90.2", "68.2", "94.8", "91.6", "85.2", "92.3", "88.6", "0.8"),
        },
    ),
)


@dataclass(frozen=True)
class GLUE(TextTask):
    """GLUE: its nine sets (--data-dir, or source=hub), else embedded sets of sentiment, ratings and claims.

    The published sets are CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE and WNLI. ``data_dir`` is the folder of one of
    them or one that holds several, each with GLUE's own TSV files, or with TSV, CSV, JSON, JSON lines or parquet files
    that have a column for each text and one for the label. Their dev sets are the test data. Without ``data_dir``,
    rated sentences of reviews and claims against quotes from Wikipedia stand in, under their own names.
    """

    source: Literal["", "hub"] = ""
    """"hub" downloads the published sets from the Hugging Face hub."""

    sets: tuple[str, ...] = ()
    """Names of the data sets to take; none for all there are."""

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"max_length": 64, "train_examples": 256, "validation_examples": 100, "test_examples": 300},
            protocol={"epochs": 3, "batch_size": 16},
            methods=("linear", "full", "lora", "prompt", "zero_gated"),
        ),
        "standard": Preset(
            task={"max_length": 64, "train_examples": 480, "validation_examples": 160, "test_examples": 500},
            protocol={"epochs": 3, "batch_size": 16, "trials": 4},
            methods=("linear", "full", "bitfit", "lora", "prompt", "prefix", "zero_gated", "zero_gated_random"),
        ),
        "paper": Preset(
            task={"max_length": 128},
            protocol={"epochs": 10, "batch_size": 32, "precision": "bf16", "trials": 8},
            seeds=5,
        ),
    }

    published: ClassVar[Sequence[PublishedTable]] = LORA_TABLES

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "source", "sets")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.source in ("", "hub"), f"source is {self.source!r}: give hub, or nothing")
        require(not (self.source and self.data_dir), "source is hub and data_dir is set: drop one")

    def datasets(self) -> Sequence[str]:
        there = list(self._there())
        if not self.sets:
            return tuple(there)
        return tuple(dict.fromkeys(self._known(name, there) for name in self.sets))

    def load(self, dataset: str) -> Data:
        dataset = self._known(dataset, self.datasets())
        if not (self.data_dir or self.source):
            from zipeft.tasks.glue import claims, reviews

            if dataset == "claims":
                return claims.load(self.limits(), self.split_seed)
            return reviews.load(dataset, self.limits(), self.split_seed)
        if self.source:
            folder, source = glue_sets.hub_folder(dataset), f"hub {REPOSITORY}@{REVISION[:7]}"
        else:
            folder = NAMED.places(self.data_dir)[dataset]
            source = f"folder {folder.name}"
        return glue_sets.load_published(dataset, folder, source, self.limits(), self.split_seed)

    def objective(self, dataset: str, classes: Sequence[str]) -> Objective:
        """Return what is learnt: classes by cross-entropy, or ratings; on CoLA, MRPC and QQP, the scores of GLUE."""
        from zipeft.objectives.classification import TextClassification
        from zipeft.objectives.regression import Regression
        from zipeft.tasks.glue import reviews

        dataset = self._known(dataset, (*EMBEDDED, *SETS))
        scales = {"sts-b": glue_sets.SCALE, "review-ratings": reviews.SCALE}
        if dataset in scales:
            return Regression(*scales[dataset])
        return TextClassification(SETS[dataset].scores) if dataset in SETS else TextClassification()

    def _there(self) -> Sequence[str]:
        if self.data_dir:
            return list(NAMED.places(self.data_dir))
        return list(SETS) if self.source else EMBEDDED

    def _known(self, name: str, there: Sequence[str]) -> str:
        elsewhere = "name its folder with --data-dir, or get it with --set glue.source=hub"
        return NAMED.known(name, there, self.data_dir, self.source, "" if self.data_dir or self.source else elsewhere)
