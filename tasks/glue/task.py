"""GLUE: its nine sets from a folder or from the hub, or four embedded sets of texts that stand in for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.data import Data
from zipeft.api.published_results import read_published
from zipeft.api.published_sets import HubSetsTask
from zipeft.api.task import Preset, PublishedTable
from zipeft.sources.named_sets import NamedSets
from zipeft.tasks.glue.sets import NAMED, REPOSITORY, REVISION, SCALE, SETS, hub_folder, load_published
from zipeft.text.task import TextTask

if TYPE_CHECKING:
    from zipeft.api.objective import Objective

EMBEDDED = ("movie-sentiment", "shop-sentiment", "review-ratings", "claims")


@dataclass(frozen=True)
class GLUE(HubSetsTask, TextTask):
    """GLUE: its nine sets (--data-dir, or source=hub), else embedded sets of sentiment, ratings and claims.

    The published sets are CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE and WNLI. ``data_dir`` is the folder of one of
    them or one that holds several, each with GLUE's own TSV files, or with TSV, CSV, JSON, JSON lines or parquet files
    that have a column for each text and one for the label. Their dev sets are the test data. Without ``data_dir``,
    rated sentences of reviews and claims against quotes from Wikipedia stand in, under their own names.
    """

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

    named: ClassVar[NamedSets] = NAMED
    embedded: ClassVar[Sequence[str]] = EMBEDDED
    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("published.toml"))

    def load(self, dataset: str) -> Data:
        dataset = self.known(dataset)
        if not (self.data_dir or self.source):
            from zipeft.tasks.glue import claims, reviews

            if dataset == "claims":
                return claims.load(self.limits(), self.split_seed)
            return reviews.load(dataset, self.limits(), self.split_seed)
        if self.source:
            folder, source = hub_folder(dataset), f"hub {REPOSITORY}@{REVISION[:7]}"
        else:
            folder = NAMED.places(self.data_dir)[dataset]
            source = f"folder {folder.name}"
        return load_published(dataset, folder, source, self.limits(), self.split_seed)

    def objective(self, dataset: str, classes: Sequence[str]) -> Objective:
        """Return what is learnt: classes by cross-entropy, or ratings; on CoLA, MRPC and QQP, the scores of GLUE."""
        from zipeft.objectives.classification import TextClassification
        from zipeft.objectives.regression import Regression
        from zipeft.tasks.glue import reviews

        dataset = self.find(dataset, (*EMBEDDED, *SETS))
        scales = {"sts-b": SCALE, "review-ratings": reviews.SCALE}
        if dataset in scales:
            return Regression(*scales[dataset])
        return TextClassification(SETS[dataset].scores) if dataset in SETS else TextClassification()
