"""Instruction tuning: Alpaca, other instructions and conversations, or the embedded part of Natural Instructions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from zipeft.api.data import Data, Window
from zipeft.api.search import Range, Space
from zipeft.api.task import Preset, PublishedTable, Task
from zipeft.errors import UserError, require
from zipeft.text import templates

if TYPE_CHECKING:
    from zipeft.api.language_backbone import LanguageBackbone
    from zipeft.objectives.responses import Responses
    from zipeft.tasks.instruct.data import Splits

METHODS = ("untuned", "full", "lora", "prompt", "prefix", "zero_gated", "zero_gated_random")

# A language model has no head to learn at a rate of its own, and at the rates that suit gates in a ViT it diverges.
SPACES: Mapping[str, Space] = {
    "full": {"learning_rate": Range(1e-5, 3e-4)},
    "lora": {"learning_rate": Range(2e-4, 6e-3)},
    "prompt": {"learning_rate": Range(3e-3, 9e-2)},
    "prefix": {"learning_rate": Range(1e-3, 3e-2)},
    "zero_gated": {"learning_rate": Range(2e-3, 6e-2)},
    "zero_gated_random": {"learning_rate": Range(2e-3, 6e-2)},
}

# The best of three trials each from those spaces, on validation data at the size of "quick"; the random gate has the
# rate of the zero one.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "lora": {"learning_rate": 2e-3},
    "prompt": {"learning_rate": 3e-2},
    "zero_gated": {"learning_rate": 1e-2},
    "zero_gated_random": {"learning_rate": 1e-2},
}

EMBEDDED = "natural-instructions"
REPOSITORY = "tatsu-lab/alpaca"

TUNING_TABLE = PublishedTable(
    title="LLaMA-7B tuned on Alpaca's 52K instructions: what it costs",
    source=(
        "LLaMA-Adapter (arXiv 2303.16199v3) Table 1: another model and other data than the rows above, and no scores; "
        "time on 8 A100 GPUs"
    ),
    columns=("tuned parameters", "storage", "training time (8 A100)"),
    rows={
        "Alpaca": ("7B", "13G", "3 h"),
        "Alpaca-LoRA": ("4.2M", "16.8M", "1.5 h"),
        "LLaMA-Adapter": ("1.2M", "4.7M", "1 h"),
    },
)

LEADERBOARD_TABLE = PublishedTable(
    title="LLaMA-7B tuned on Alpaca's 52K instructions, on four benchmarks of other tasks (%)",
    source=(
        "LLaMA-Adapter (arXiv 2303.16199v3) Table 18: another model, other data and other scores than the rows above; "
        "the table does not say how many examples each benchmark's prompts hold"
    ),
    columns=("params (M)", "time (h)", "average", "ARC", "HellaSwag", "MMLU", "TruthfulQA"),
    rows={
        "Alpaca (full)": ("7B", "3", "49.23", "49.1", "77.7", "33.8", "36.3"),
        "Alpaca-LoRA": ("4.2", "1.5", "50.73", "53", "77.9", "37.1", "34.9"),
        "LLaMA-Adapter": ("1.2", "1.0", "52.2", "54.7", "78.8", "34.9", "40.4"),
    },
)


@dataclass(frozen=True)
class Instruct(Task):
    """Instruction tuning: Alpaca's layout or conversations (--data-dir), the hub, else Natural Instructions in part.

    ``data_dir`` is a folder with train, and perhaps validation, test and unseen files (JSON, JSON lines, parquet, CSV
    or TSV), or it is one file. A record is {"instruction", "input", "output"}, where the input may be missing, or be a
    "context" as in Dolly, or a conversation: {"messages": [{"role", "content"}]}, or {"conversations": [{"from",
    "value"}]} as in ShareGPT, where each turn of the assistant is an example. Either may have a "system", which
    needs template "chat"; other columns that say more are refused ("history", "prompt", "tools", ...). Validation and
    test data that are not given are cut from the training data, a tenth but about 2,000 at most; "unseen" is a further
    test set.

    Without ``data_dir``, twelve subtasks of Natural Instructions are learnt, and five more, which training never saw,
    are a further test set. Only responses carry loss.
    """

    source: Literal["", "hub"] = ""
    """"hub" downloads ``repository`` from the Hugging Face hub."""

    repository: str = REPOSITORY
    """A data set of the hub in one of the layouts above."""

    revision: str = ""
    """A commit, branch or tag of it; "" for the newest one, of Alpaca for a fixed one."""

    instructions: Literal["prompt", "definition", "full"] = "prompt"
    """Which part of the embedded subtasks' instructions is given."""

    template: str = templates.ALPACA
    r"""How an instruction becomes a prompt: "alpaca", "chat" for the tokenizer's own template, or a text with the field
    {instruction} and, where there are inputs, {input}; "\n" in it is a line break."""

    max_length: int = 512
    """Tokens of prompt and response together."""

    overlong: Literal["cut", "refuse"] = "cut"
    """What is longer loses the end of its response or, where the prompt leaves no room for one, is left out and
    counted (in Stanford Alpaca it carries no loss); or it is refused."""

    max_new_tokens: int = 64
    """Tokens of the longest answer that is given to a test prompt."""

    skip_empty: bool = False
    """Leave out records with an empty response, as Alpaca has some; else they are refused."""

    skip_broken: bool = False
    """Leave out and count broken records, such as a conversation in which user and assistant do not alternate."""

    train_examples: int = 0
    """Train on so many examples, chosen with ``split_seed``, of embedded subtasks evenly; 0 for all. The same below."""

    validation_examples: int = 0

    test_examples: int = 0

    unseen_examples: int = 0

    split_seed: int = 0
    """Seeds the validation data that are cut and the examples that are chosen."""

    scoring: int = field(default=2, init=False)
    """How answers are scored, on record so that results by another way are not compared with these: 2 leaves out
    thoughts, compares words of every script, and takes "A" for an answer and not for an article."""

    modality: ClassVar[str] = "instruction"

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={
                "max_length": 192,
                "max_new_tokens": 16,
                "train_examples": 120,
                "validation_examples": 24,
                "test_examples": 24,
                "unseen_examples": 20,
            },
            protocol={"epochs": 1, "batch_size": 8},
            methods=("untuned", "lora", "prompt", "zero_gated"),
            settings=SETTINGS,
            spaces=SPACES,
        ),
        "standard": Preset(
            task={
                "max_length": 192,
                "max_new_tokens": 24,
                "train_examples": 240,
                "validation_examples": 48,
                "test_examples": 96,
                "unseen_examples": 60,
            },
            protocol={"epochs": 1, "batch_size": 4, "trials": 4},
            methods=METHODS,
            settings=SETTINGS,
            spaces=SPACES,
        ),
        "paper": Preset(
            task={"max_length": 512, "max_new_tokens": 256},
            protocol={"epochs": 5, "batch_size": 64, "precision": "bf16", "trials": 8},
            settings=SETTINGS,
            spaces=SPACES,
            seeds=5,
        ),
    }

    published: ClassVar[Sequence[PublishedTable]] = (TUNING_TABLE, LEADERBOARD_TABLE)

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "source", "repository", "revision")

    def __post_init__(self) -> None:
        require(not (self.source and self.data_dir), "source is hub and data_dir is set: drop one")
        require(bool(self.repository.strip("/")), "repository is empty: give owner/name")
        for name in ("max_length", "max_new_tokens"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}: give 1 or more")
        for split, count in self.limits().items():
            require(count >= 0, f"{split}_examples is {count}: give 1 or more, or 0 for all")
        require(0 <= self.split_seed < 2**32, f"split_seed is {self.split_seed}: give a number from 0 to {2**32 - 1}")
        templates.check(self.template)

    def limits(self) -> dict[str, int]:
        """Return how many examples of each split to take, 0 for all."""
        return {name: getattr(self, f"{name}_examples") for name in ("train", "validation", "test", "unseen")}

    def datasets(self) -> Sequence[str]:
        if self.data_dir:
            from zipeft.tasks.instruct.files import local_name

            return (local_name(self.data_dir),)
        return (self.repository.strip("/").rpartition("/")[2],) if self.source else (EMBEDDED,)

    def load(self, dataset: str) -> Data:
        return self._load(dataset, None)

    def load_for(self, dataset: str, backbone: LanguageBackbone) -> Data:
        return self._load(dataset, backbone if self.overlong == "cut" else None)

    def _load(self, dataset: str, backbone: LanguageBackbone | None) -> Data:
        """Return the data set, for a backbone without the records whose prompts leave no room for a response."""
        from zipeft.tasks.instruct.data import build_data, check_template

        (name,) = self.datasets()
        if dataset != name:
            raise UserError(f"no data set {dataset!r}, only {name!r}: check --data-dir and instruct.source")
        splits, source, notes = self._records()
        check_template(splits, self.template)
        if backbone:
            from zipeft.tasks.instruct.windows import with_room

            splits, left_out = with_room(splits, backbone.tokenizer(), self.template, self.max_length)
            notes = [*notes, *left_out]
        return build_data(name, splits, self.limits(), self.split_seed, source, notes)

    def _records(self) -> tuple[Splits, str, list[str]]:
        """Return all records by split, where they are from, and notes on them."""
        from zipeft.tasks import bigbench_archive
        from zipeft.tasks.instruct import files, natural_instructions
        from zipeft.tasks.instruct.data import completed

        if not (self.data_dir or self.source):
            splits, notes = natural_instructions.load(self.instructions, self.split_seed)
            return splits, bigbench_archive.ARCHIVE.label, notes
        skip = files.Skip(self.skip_empty, self.skip_broken)
        if self.data_dir:
            listing = files.read_local(self.data_dir, skip)
        else:
            listing = files.read_hub(self.repository, self.revision, skip)
        splits, notes = completed(listing.splits, self.split_seed)
        return splits, listing.source, [*listing.notes(), *notes]

    def objective(self, dataset: str, classes: Sequence[str]) -> Responses:
        from zipeft.objectives.responses import Responses

        return Responses(self.max_new_tokens)

    def windows(self, backbone: LanguageBackbone) -> Callable[[Any, Any], Sequence[Window]]:
        """Return the function from an instruction and its references to its one window.

        Raises ``UserError`` where an answer would leave what the backbone takes.
        """
        from zipeft.tasks.instruct.windows import windows_of

        if self.max_length + self.max_new_tokens > (limit := backbone.max_length()):
            raise UserError(
                f"max_length {self.max_length} and max_new_tokens {self.max_new_tokens} are more than the {limit} "
                "tokens that the backbone takes: lower one of them"
            )
        return windows_of(backbone.tokenizer(), self.template, self.max_length, self.overlong == "refuse")
