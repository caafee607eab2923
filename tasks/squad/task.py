"""Extractive question answering: SQuAD 1.1 and 2.0, files in its format, or the embedded part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.data import Data, Window
from zipeft.api.published_results import read_published
from zipeft.api.published_sets import HubSetsTask
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError, did_you_mean, require
from zipeft.sources.named_sets import NamedSets
from zipeft.sources.splits import check_seed
from zipeft.tasks.squad.sets import EMBEDDED, PUBLISHED, SHIFTED, embedded_set, hub_set, local_sets

if TYPE_CHECKING:
    from zipeft.api.backbone import TextBackbone
    from zipeft.objectives.extractive_qa import Spans

QUESTION_TOKENS = 64
"""A longer question loses its end, as in BERT: every window needs room for the context."""

ROOM = QUESTION_TOKENS + 8
"""Tokens of a window that may not be shared with the next: a question, special tokens, and some to move on by."""

METHODS = ("linear", "full", "bitfit", "lora", "prompt", "prefix", "zero_gated", "zero_gated_random")


@dataclass(frozen=True)
class SQuAD(HubSetsTask):
    """Extractive question answering: SQuAD 1.1, 2.0 or files in its format (--data-dir), else SQuAD's dev set, split.

    ``data_dir`` is a folder with train-v1.1.json and dev-v1.1.json, with train-v2.0.json and dev-v2.0.json (or all
    four), or with train, validation and test files (JSON, JSON lines or parquet); or it is one file, which is split.
    The public development set is the test set; where no validation set is given, it is cut from the training data by
    article. Any file may hold questions without an answer, as version 2.0 does. Training questions
    whose answer is not in the context are counted and left out; in validation and test data they are refused.

    Without ``data_dir``, the development set of SQuAD 1.1 is split by article under a name of its own, squad-dev, and
    tested on four further sets of other domains (SQuADShifts), on which nothing is selected.
    """

    shifted: tuple[str, ...] = SHIFTED
    """The sets of other domains that squad-dev is tested on, too."""

    max_length: int = 384
    """Tokens of a window, the question and special tokens included."""

    stride: int = 128
    """Tokens that two windows in a row share."""

    n_best: int = 20
    """So many starts and ends of an answer are tried with each other in each window."""

    max_answer_length: int = 30
    """Tokens of the longest answer that is given."""

    train_questions: int = 0
    """Take so many training questions, the first of a shuffle by ``split_seed``; 0 for all. The same below."""

    validation_questions: int = 0

    test_questions: int = 0

    shifted_questions: int = 0
    """Questions of each set of another domain."""

    split_seed: int = 0
    """Seeds the splits that are cut and the questions that are taken."""

    move_answers: bool = False
    """Move a gold answer that does not stand where the file says to the nearest place where it does; else refuse it."""

    drop_repeated: bool = False
    """Take the first of several questions that have one id in a file; else refuse them."""

    modality: ClassVar[str] = "text"

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={
                "max_length": 128,
                "stride": 32,
                "train_questions": 400,
                "validation_questions": 100,
                "test_questions": 150,
                "shifted_questions": 30,
            },
            protocol={"epochs": 1, "batch_size": 16},
            methods=("linear", "full", "lora", "prompt", "zero_gated", "zero_gated_random"),
            settings={
                "linear": {"head_learning_rate": 3e-3},
                "full": {"learning_rate": 2e-4, "head_learning_rate": 4e-3},
                "lora": {"learning_rate": 3e-3, "head_learning_rate": 2e-2},
                "prompt": {"learning_rate": 4e-3, "head_learning_rate": 4e-2},
                "zero_gated": {"learning_rate": 4e-2, "head_learning_rate": 4e-2},
                "zero_gated_random": {"learning_rate": 4e-2, "head_learning_rate": 4e-2},
            },
        ),
        "standard": Preset(
            task={
                "max_length": 128,
                "stride": 32,
                "train_questions": 1000,
                "validation_questions": 150,
                "test_questions": 400,
                "shifted_questions": 75,
            },
            protocol={"epochs": 1, "batch_size": 16, "trials": 4},
            methods=METHODS,
        ),
        "paper": Preset(
            task={"max_length": 384, "stride": 128},
            protocol={"epochs": 10, "batch_size": 8, "precision": "bf16", "trials": 8},
            seeds=5,
        ),
    }

    named: ClassVar[NamedSets] = NamedSets("squad", dict.fromkeys(PUBLISHED, ()))
    embedded: ClassVar[Sequence[str]] = (EMBEDDED,)
    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("published.toml"))

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "sets", "drop_repeated")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_questions", "validation_questions", "test_questions", "shifted_questions"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: give 1 or more, or 0 for all")
        for name in ("n_best", "max_answer_length"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: give 1 or more")
        require(self.stride >= 0, f"stride is {self.stride}: give 0 or more")
        require(
            self.max_length - self.stride >= ROOM,
            f"max_length is {self.max_length} and stride {self.stride}: {ROOM} tokens or more between them are needed, "
            "for a question and something new of the context",
        )
        check_seed(self.split_seed)
        for name in self.shifted:
            require(
                name in SHIFTED,
                f"shifted has {name!r}{did_you_mean(name, SHIFTED)} (there: {', '.join(SHIFTED)})",
            )

    def there(self) -> Sequence[str]:
        return list(local_sets(self.data_dir)) if self.data_dir else super().there()

    def load(self, dataset: str) -> Data:
        from zipeft.tasks.squad.data import Repairs, build_data

        dataset = self.known(dataset)
        if self.data_dir:
            files = local_sets(self.data_dir)[dataset]
        else:
            files = hub_set(dataset) if self.source else embedded_set(self.shifted)
        taken = {split: getattr(self, f"{split}_questions") for split in ("train", "validation", "test")}
        taken |= dict.fromkeys(self.shifted, self.shifted_questions)
        # Some answers of the embedded files are misplaced. None lacks its text, which is all that scores look at.
        move = self.move_answers or not (self.data_dir or self.source)
        return build_data(dataset, files, taken, self.split_seed, Repairs(move, self.drop_repeated))

    def objective(self, dataset: str, classes: Sequence[str]) -> Spans:
        from zipeft.objectives.extractive_qa import Spans

        return Spans(self.n_best, self.max_answer_length)

    def windows(self, backbone: TextBackbone) -> Callable[[Any, Any], Sequence[Window]]:
        """Return the function from a question and its gold answers to windows of at most ``max_length`` tokens."""
        from zipeft.tasks.squad.windows import windows_of

        if self.max_length > (limit := backbone.max_length()):
            raise UserError(f"squad.max_length is {self.max_length}, but the backbone takes {limit} tokens: lower it")
        return windows_of(backbone.tokenizer(), self.max_length, self.stride, QUESTION_TOKENS)
