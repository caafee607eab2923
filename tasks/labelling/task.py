"""Sequence labelling: one tag a word, for named entities (CoNLL-2003 and its like) and semantic roles (CoNLL-2005)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from zipeft.api.data import Data, Window
from zipeft.api.published_results import read_published
from zipeft.api.published_sets import PublishedSetsTask
from zipeft.api.task import Preset, PublishedTable
from zipeft.errors import UserError
from zipeft.objectives.sequence_labelling import SequenceLabelling
from zipeft.sources.folder import require_folder, subfolders
from zipeft.sources.named_sets import NamedSets
from zipeft.sources.splits import check_seed
from zipeft.tasks.labelling.conll import find_splits
from zipeft.tasks.labelling.data import Choices, Reader, Sentence

if TYPE_CHECKING:
    from zipeft.api.backbone import TextBackbone


@dataclass(frozen=True)
class Labelling(PublishedSetsTask):
    """Sequence labelling: named entities and semantic roles from files in CoNLL's formats (--data-dir).

    ``data_dir`` is the folder of one data set, or one that holds several. A data set has a training file or folder and
    one for test or development, by such names as train.txt, dev.conll and test.tsv, eng.train, eng.testa and eng.testb,
    or test.wsj.props and test.brown.props (Brown is reported beside the test set). Without development data, validation
    is a tenth of the training data; without test data, the development data are the test data.

    Entities: the word first or after its number, its tag last (or in ``tag_column``), in IOB1, BIO or IOBES, with types
    or, where there is but one, without; comments before a sentence (#) are passed over. Roles: the propositions of
    CoNLL-2005 behind their words, or ``_gold_conll`` files of CoNLL-2012. Each predicate is an example, and its word is
    the second segment of the input, as in P-tuning v2 (arXiv 2110.07602); two predicates that are the same word cannot
    be told apart by it. The predicate itself (V, C-V) is no role, as for CoNLL's scorer. Other C- and R- roles are
    roles of their own, where that scorer joins C- parts to what they continue.
    """

    format: Literal["auto", "ner", "srl"] = "auto"
    """What the files hold: named entities ("ner") or semantic roles ("srl"); "auto" looks at the training file."""

    tag_column: int = -1
    """Where the tag of an entity stands, counted from 0 (the word), or from -1 (the last column) backwards."""

    max_length: int = 152
    """Tokens that go through the model at once, special ones and the predicate included; 152 as P-tuning v2 has it for
    CoNLL03. A longer sentence goes in several windows, and each word is read where it has most words around it."""

    stride: int = 32
    """Tokens that two windows on a sentence share."""

    split_seed: int = 0
    """Seed of the validation split, where the data bring none, and of the choice of ``train_sentences``."""

    train_sentences: int = 0
    """Train on so many sentences, the first of a shuffle by ``split_seed``; 0 for all."""

    modality: ClassVar[str] = "text"

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(
            task={"train_sentences": 2000},
            protocol={"epochs": 3, "batch_size": 16},
            methods=("linear", "full", "lora", "prompt", "prefix", "zero_gated"),
        ),
        "standard": Preset(protocol={"epochs": 5, "batch_size": 16, "trials": 4}),
        "paper": Preset(protocol={"epochs": 30, "batch_size": 16, "trials": 8, "precision": "bf16"}, seeds=5),
    }

    named: ClassVar[NamedSets] = NamedSets("labelling", {})
    published: ClassVar[Sequence[PublishedTable]] = read_published(Path(__file__).with_name("published.toml"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format not in ("auto", "ner", "srl"):
            raise UserError(f"format is {self.format!r}: give one of auto, ner or srl")
        if not 0 <= self.stride < self.max_length:
            raise UserError(f"stride is {self.stride}: give 0 or more, and less than max_length ({self.max_length})")
        check_seed(self.split_seed)
        if self.train_sentences < 0:
            raise UserError(f"train_sentences is {self.train_sentences}: give 1 or more, or 0 for all")

    def there(self) -> Sequence[str]:
        return list(self._folders())

    def load(self, dataset: str) -> Data:
        dataset = self.known(dataset)
        choices = Choices(self.format, self.tag_column, self.split_seed, self.train_sentences)
        return Reader(self._folders()[dataset], choices).data(dataset)

    def objective(self, dataset: str, classes: Sequence[str]) -> SequenceLabelling:
        return SequenceLabelling(tuple(classes))

    def windows(self, backbone: TextBackbone) -> Callable[[Sentence, Sequence[int]], list[Window]]:
        """Return the function from a sentence and its labels (ids, one a word) to the windows on it.

        Each word is read once: at its first piece, in one of the windows. ``Window.origin`` holds, for every token, the
        index of the word that is read there, or -1; ``Window.target`` (tokens,) its label, or -100. A word for which
        the tokenizer has no piece (a lone control character) is read nowhere.

        Raises ``UserError`` if the model takes fewer tokens than ``max_length``, and later, for a sentence that needs
        windows, if its predicate leaves too little room in them.
        """
        from zipeft.tasks.labelling.windows import windows_of

        if self.max_length > backbone.max_length():
            raise UserError(f"max_length is {self.max_length}, the backbone takes {backbone.max_length()} tokens")
        return windows_of(backbone.tokenizer(), self.max_length, self.stride)

    def _folders(self) -> dict[str, Path]:
        """Return the folders of the data sets in ``data_dir``, or ``data_dir`` itself, by their names."""
        if self.data_dir is None:
            raise UserError(
                "task labelling has no data of its own: name a folder with --data-dir that holds train.txt, dev.txt "
                "and test.txt in a CoNLL format, or folders of such files"
            )
        root = require_folder(self.data_dir, "labelling")
        if "train" in find_splits(root):
            return {root.name: root}
        found = {folder.name: folder for folder in subfolders(root) if "train" in find_splits(folder)}
        if not found:
            raise UserError(f"{root} holds no training file (train.txt, eng.train, ...), nor a folder with one: add it")
        return found
