"""Sequence labelling: one tag a word, for named entities (CoNLL-2003 and its like) and semantic roles (CoNLL-2005)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from zipeft.data_folder import require_folder, subfolders
from zipeft.errors import UserError, did_you_mean
from zipeft.metrics.tags import OUTSIDE
from zipeft.splits import cut
from zipeft.task import Data, Preset, PublishedTable, Split, Task, Window
from zipeft.tasks._conll import Labelled, find_splits, holds_roles, read_entities, read_roles, read_table
from zipeft.text.objectives import NO_LABEL, SequenceLabelling
from zipeft.words import counted

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerFast

    from zipeft.backbone import TextBackbone

VALIDATION = 0.1
"""The part of the training data that is cut off for validation where none are given."""

LLAMA_ADAPTER_TABLE = PublishedTable(
    title="NER and SRL, RoBERTa-large: micro-F1 (%)",
    source=(
        "LLaMA-Adapter (arXiv 2303.16199 v3) Table 13. CoNLL03 and CoNLL04 are NER, CoNLL12 and CoNLL05 are SRL with "
        "given predicates. The published code of P-tuning v2 (PT2) scores the predicate itself (V) as a role to be "
        "found, which is easy and not done here: compare SRL with caution."
    ),
    columns=("CoNLL03", "CoNLL04", "CoNLL12", "CoNLL05 Brown", "CoNLL05 WSJ"),
    rows={
        "Full": ("92.6", "88.8", "86.5", "85.6", "90.2"),
        "PT": ("86.1", "76.2", "67.2", "70.7", "76.8"),
        "PT2": ("92.8", "88.4", "84.6", "84.3", "89.2"),
        "PT2 (reproduced)": ("91.8", "88.4", "84.7", "83.9", "89.4"),
        "Zero-init": ("92.4", "88.8", "85.2", "84.7", "89.6"),
    },
)


class Example(NamedTuple):
    """The words of a sentence and, for semantic roles, the predicate whose roles are asked for."""

    words: tuple[str, ...]
    predicate: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelling(Task):
    """Sequence labelling: named entities and semantic roles from files in CoNLL's formats (--data-dir).

    ``data_dir`` is the folder of one data set, or one that holds several. A data set has a training file or folder and
    one for test or development, by such names as train.txt, dev.conll and test.tsv, eng.train, eng.testa and eng.testb,
    or test.wsj.props and test.brown.props (Brown is reported beside the test set). Without development data, validation
    is a tenth of the training data; without test data, the development data are the test data.

    Entities: the word first, its tag last (or in ``tag_column``), in IOB1, BIO or IOBES. Roles: the propositions of
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

    sets: tuple[str, ...] = ()
    """Names of the data sets (of their folders) to take; none for all there are."""

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

    published: ClassVar[Sequence[PublishedTable]] = (LLAMA_ADAPTER_TABLE,)

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "sets")

    def __post_init__(self) -> None:
        if self.format not in ("auto", "ner", "srl"):
            raise UserError(f"format is {self.format!r}: give one of auto, ner or srl")
        if not 0 <= self.stride < self.max_length:
            raise UserError(f"stride is {self.stride}: give 0 or more, and less than max_length ({self.max_length})")
        if not 0 <= self.split_seed < 2**32:
            raise UserError(f"split_seed is {self.split_seed}: give a number from 0 to {2**32 - 1}")
        if self.train_sentences < 0:
            raise UserError(f"train_sentences is {self.train_sentences}: give 1 or more, or 0 for all")

    def datasets(self) -> Sequence[str]:
        there = list(self._folders())
        if not self.sets:
            return tuple(there)
        return tuple(dict.fromkeys(self._known(name, there) for name in self.sets))

    def load(self, dataset: str) -> Data:
        dataset = self._known(dataset, self.datasets())
        return _Reader(self, self._folders()[dataset]).data(dataset)

    def objective(self, dataset: str, classes: Sequence[str]) -> SequenceLabelling:
        return SequenceLabelling(tuple(classes))

    def windows(self, backbone: TextBackbone) -> Callable[[Example, Sequence[int]], list[Window]]:
        """Return the function from a sentence and its labels (ids, one a word) to the windows on it.

        Each word is read once: at its first piece, in one of the windows. ``Window.origin`` holds, for every token, the
        index of the word that is read there, or -1; ``Window.target`` (tokens,) its label, or -100. A word for which
        the tokenizer has no piece (a lone control character) is read nowhere.

        Raises ``UserError`` if the model takes fewer tokens than ``max_length``, and later, for a sentence that needs
        windows, if its predicate leaves too little room in them.
        """
        if self.max_length > backbone.max_length():
            raise UserError(f"max_length is {self.max_length}, the backbone takes {backbone.max_length()} tokens")
        tokenizer = backbone.tokenizer()
        space = " " if _is_byte_level(tokenizer) else ""
        encode = partial(_encode, tokenizer=tokenizer, space=space, max_length=self.max_length, stride=self.stride)
        return lambda example, target: _windows(encode(example), target, tokenizer.model_input_names)

    def _known(self, name: str, there: Sequence[str]) -> str:
        """Return which of the sets that are there ``name`` means, whatever the case. Raises ``UserError`` if none."""
        for each in (name, *(each for each in there if each.casefold() == name.casefold())):
            if each in there:
                return each
        hint = did_you_mean(name, there)
        raise UserError(f"no data set {name!r} in {self.data_dir}{hint} (there: {', '.join(there)})")

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


# --- from files to a data set -----------------------------------------------------------------------------------------

Examples = list[Labelled]


class _Reader:
    """Reads the data set in a folder by a task's settings, and takes notes of how."""

    def __init__(self, task: Labelling, folder: Path) -> None:
        self.task, self.folder, self.format = task, folder, task.format
        self.forms: set[str] = set()
        self.notes: list[str] = []

    def data(self, name: str) -> Data:
        """Return the data set. Raises ``UserError``."""
        splits = self._splits(find_splits(self.folder))
        tags = {tag for examples in splits.values() for example in examples for tag in example.tags}
        classes = [OUTSIDE, *sorted(tags - {OUTSIDE})]
        splits["train"] = self._some(splits["train"])
        self._note_repeated(splits)
        made = {split: self._split(examples, classes) for split, examples in splits.items()}
        sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in splits.items())
        return Data(
            name=name,
            classes=classes,
            train=made["train"],
            validation=made["validation"],
            test=made["test"],
            source=f"folder {self.folder.name}",
            checksum=_checksum(splits),
            note="; ".join([self._kind(), f"{'predicates' if self.srl else 'sentences'}: {sizes}", *self.notes]),
            shifted={"brown": made["brown"]} if "brown" in made else {},
        )

    @property
    def srl(self) -> bool:
        return self.format == "srl"

    def _splits(self, files: Mapping[str, list[Path]]) -> dict[str, Examples]:
        """Read all files, and complete the splits: train, validation, test and perhaps brown, in this order."""
        if "test" not in files and "validation" not in files:
            raise UserError(f"{self.folder} has neither test nor development data: add test.txt or dev.txt")
        read = {split: self._read(files[split]) for split in ("train", *sorted(files.keys() - {"train"}))}
        self._check_types(read)
        if "test" not in read:
            read["test"] = read.pop("validation")
            self.notes.append("no test data: the development data are the test data")
        if "validation" not in read:
            read["train"], read["validation"] = self._cut(read["train"])
        return {split: read[split] for split in ("train", "validation", "test", "brown") if split in read}

    def _read(self, files: Iterable[Path]) -> Examples:
        examples: Examples = []
        for file in files:
            table = read_table(file)
            if self.format == "auto":
                self.format = "srl" if holds_roles(table) else "ner"
            if self.srl:
                examples += read_roles(table)
            else:
                sentences, form = read_entities(table, self.task.tag_column)
                examples += sentences
                self.forms.add(form)
        if not examples:
            raise UserError(f"{file} marks no predicate: there is nothing to learn or to test in it")
        return examples

    def _cut(self, examples: Examples) -> tuple[Examples, Examples]:
        """Cut validation from training data: whole documents where the files tell them apart, else sentences."""
        unit, of = "documents", [(example.file, example.document) for example in examples]
        if len(set(of)) == 1:
            unit, of = "sentences", [(example.file, example.sentence) for example in examples]
        units = list(dict.fromkeys(of))
        if len(units) == 1:
            raise UserError(f"{examples[0].file} has one sentence, too few to cut validation data from: add dev.txt")
        seed = self.task.split_seed
        taken = {units[index] for index in cut([unit] * len(units), VALIDATION, seed)[1]}
        self.notes.append(f"validation cut from the training data, {VALIDATION:.0%} of its {unit} with seed {seed}")
        parts: tuple[Examples, Examples] = ([], [])
        for example, its in zip(examples, of, strict=True):
            parts[its in taken].append(example)
        return parts

    def _check_types(self, read: Mapping[str, Examples]) -> None:
        """Raise ``UserError`` if there are no types, or entities of one that the training data lack."""
        known = _types(read["train"])
        if not known:
            raise UserError(f"{self.folder} has no training word with another tag than O: check tag_column and format")
        for examples in read.values():
            if not self.srl and (unknown := _types(examples) - known):
                file, line, kind = _first_of(unknown, examples)
                raise UserError(f"{file} line {line}: no entity of the type {kind!r} is in the training data")

    def _some(self, examples: Examples) -> Examples:
        """Return those of ``train_sentences``, in their order."""
        import numpy as np

        count, seed = self.task.train_sentences, self.task.split_seed
        there = list(dict.fromkeys((example.file, example.sentence) for example in examples))
        if not 0 < count < len(there):
            return examples
        taken = {there[index] for index in np.random.RandomState(seed).permutation(len(there))[:count]}
        self.notes.append(f"trained on {count:,} of {len(there):,} sentences, chosen with seed {seed}")
        return [example for example in examples if (example.file, example.sentence) in taken]

    def _note_repeated(self, splits: Mapping[str, Examples]) -> None:
        """Say how many test sentences are in training, too; a few of them are in every published set.

        Raises ``UserError`` where most of them are: then a test file is a training file under another name.
        """
        seen = {example.words for split in ("train", "validation") for example in splits[split]}
        for split in [split for split in splits if split not in ("train", "validation")]:
            sentences = {(example.file, example.sentence): example.words for example in splits[split]}
            repeated = sum(words in seen for words in sentences.values())
            if 2 * repeated > len(sentences):
                raise UserError(
                    f"{self.folder}: {repeated} of {counted(len(sentences), f'{split} sentence')} are in training or "
                    "validation, too: give other test data"
                )
            if repeated:
                self.notes.append(f"{counted(repeated, f'{split} sentence')} also in training, word for word")

    def _kind(self) -> str:
        if self.srl:
            return "semantic roles, one example a predicate, V and C-V not scored, classes from all splits"
        forms = sorted(self.forms - {"BIO"})
        return f"named entities, {' and '.join(forms)} tags rewritten as BIO" if forms else "named entities, BIO tags"

    def _split(self, examples: Examples, classes: Sequence[str]) -> Split:
        ids = {tag: index for index, tag in enumerate(classes)}
        return Split(
            examples=[Example(example.words, example.predicate) for example in examples],
            targets=[[ids[tag] for tag in example.tags] for example in examples],
            names=[self._name(example) for example in examples],
        )

    def _name(self, example: Labelled) -> str:
        """Return where an example stands: file and line and, for a predicate, the column of its roles (from 1)."""
        place = f"{example.file.relative_to(self.folder).as_posix()}:{example.line}"
        return f"{place}:{example.column + 1}" if self.srl else place


def _types(examples: Examples) -> set[str]:
    return {tag[2:] for example in examples for tag in example.tags} - {""}


def _first_of(types: set[str], examples: Examples) -> tuple[Path, int, str]:
    """Return file and line of the first tag of one of the types, and which it is."""
    for example in examples:
        for line, tag in enumerate(example.tags, example.line):
            if tag[2:] in types:
                return example.file, line, tag[2:]
    raise ValueError(types)


def _checksum(splits: Mapping[str, Examples]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            digest.update(json.dumps([split, example.words, example.predicate, example.tags]).encode() + b"\n")
    return digest.hexdigest()


# --- from sentences to windows ----------------------------------------------------------------------------------------


def _windows(encoded: BatchEncoding, target: Sequence[int], names: Sequence[str]) -> list[Window]:
    """Return the windows in which words are read; the first one where there are no such words."""
    import torch

    origins = _origins([_words(encoded, window) for window in range(len(encoded["input_ids"]))])
    windows = []
    for window, origin in enumerate(origins):
        if window == 0 or any(word >= 0 for word in origin):
            inputs = {name: torch.tensor(encoded[name][window]) for name in names}
            labels = torch.tensor([target[word] if word >= 0 else NO_LABEL for word in origin])
            windows.append(Window(inputs, labels, origin))
    return windows


def _encode(
    example: Example, *, tokenizer: PreTrainedTokenizerFast, space: str, max_length: int, stride: int
) -> BatchEncoding:
    """Return the tokens of a sentence, and of its predicate as the second segment, in as many windows as it takes.

    Each word is given with ``space`` before it. A word that is spelt like a special token stays a word.
    """
    segments = [[space + word for word in words] for words in example if words]
    options: dict[str, Any] = {
        "is_split_into_words": True,
        "return_overflowing_tokens": True,
        "split_special_tokens": True,
        "verbose": False,
    }
    encoded = tokenizer(*segments, **options)
    if len(encoded["input_ids"][0]) <= max_length:
        return encoded
    room = max_length - sum(segment != 0 for segment in encoded.sequence_ids(0))
    if room <= stride:
        beside = f" beside the predicate {' '.join(example.predicate)!r}" if example.predicate else ""
        raise UserError(
            f"max_length={max_length} leaves a sentence {max(room, 0)} tokens{beside}, which is not more than the "
            f"{stride} of stride: set a higher max_length or a lower stride"
        )
    return tokenizer(*segments, truncation="only_first", max_length=max_length, stride=stride, **options)


def _is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer writes the space before a word into its first piece, as RoBERTa's does.

    Words that are given one by one then need a space of their own: that of a tokenizer which is told to add a prefix
    space changes nothing in a word that has one.
    """
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    return pre_tokenizer is not None and b'"ByteLevel"' in pre_tokenizer.__getstate__()


def _words(encoded: BatchEncoding, window: int) -> list[int]:
    """Return, for every token of a window, the index of the word in the sentence that it is a piece of, or -1."""
    pairs = zip(encoded.word_ids(window), encoded.sequence_ids(window), strict=True)
    return [word if segment == 0 and word is not None else -1 for word, segment in pairs]


def _origins(windows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return, for every token of every window, the index of the word that is read there, or -1.

    Args:
        windows: for every token, the index of the word that it is a piece of, or -1.

    Each word is read at its first piece, in the window in which the nearer end of the window's words is farthest from
    it, of equals the first. A window may begin within a word; such a word is read in one before.
    """
    best: dict[int, tuple[int, int, int]] = {}
    before: set[int] = set()
    for index, words in enumerate(windows):
        inside = [position for position, word in enumerate(words) if word >= 0]
        for position in inside:
            word = words[position]
            is_first_piece = position == inside[0] or words[position - 1] != word
            if not is_first_piece or (position == inside[0] and word in before):
                continue
            context = min(position - inside[0], inside[-1] - position)
            if word not in best or context > best[word][0]:
                best[word] = context, index, position
        before = set(words)
    origins = [[-1] * len(words) for words in windows]
    for word, (_, index, position) in best.items():
        origins[index][position] = word
    return origins
