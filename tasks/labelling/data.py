"""From files of labelled sentences to a data set: the splits they lack, the checks, the checksum, the note."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.metrics.tags import OUTSIDE
from zipeft.sources.splits import cut, note_shared
from zipeft.tasks.labelling.conll import Labelled, find_splits, holds_roles, read_table
from zipeft.tasks.labelling.entities import read_entities
from zipeft.tasks.labelling.roles import read_roles

VALIDATION = 0.1
"""The part of the training data that becomes validation data where none are given."""


class Sentence(NamedTuple):
    """The words of a sentence and, for semantic roles, the predicate."""

    words: tuple[str, ...]
    predicate: tuple[str, ...] = ()


Examples = list[Labelled]


class Choices(NamedTuple):
    """The settings of the task that say what is read of a folder."""

    format: str
    tag_column: int
    split_seed: int
    train_sentences: int


class Reader:
    """Reads the data set in a folder, and takes notes of how."""

    def __init__(self, folder: Path, choices: Choices) -> None:
        self.folder, self.choices, self.format = folder, choices, choices.format
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
                sentences, form = read_entities(table, self.choices.tag_column)
                examples += sentences
                self.forms.add(form)
                if table.word_column:
                    self.notes.append(f"the second column of {file.name} has the words, its first counts them")
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
        seed = self.choices.split_seed
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
                what = f"of the type {kind!r}" if kind else "without a type"
                raise UserError(f"{file} line {line}: no entity {what} is in the training data")

    def _some(self, examples: Examples) -> Examples:
        """Return those of ``train_sentences``, in their order."""
        import numpy as np

        count, seed = self.choices.train_sentences, self.choices.split_seed
        there = list(dict.fromkeys((example.file, example.sentence) for example in examples))
        if not 0 < count < len(there):
            return examples
        taken = {there[index] for index in np.random.RandomState(seed).permutation(len(there))[:count]}
        self.notes.append(f"trained on {count:,} of {len(there):,} sentences, chosen with seed {seed}")
        return [example for example in examples if (example.file, example.sentence) in taken]

    def _note_repeated(self, splits: Mapping[str, Examples]) -> None:
        """Say how many test sentences are in training, too; a few of them are in every published set."""
        seen = {example.words for split in ("train", "validation") for example in splits[split]}
        for split in [split for split in splits if split not in ("train", "validation")]:
            sentences = {(example.file, example.sentence): example.words for example in splits[split]}
            self.notes += note_shared(f"{self.folder}", f"{split} sentence", seen, list(sentences.values()))

    def _kind(self) -> str:
        if self.srl:
            return "semantic roles, one example a predicate, V and C-V not scored, classes from all splits"
        forms = sorted(self.forms - {"BIO"})
        return f"named entities, {' and '.join(forms)} tags rewritten as BIO" if forms else "named entities, BIO tags"

    def _split(self, examples: Examples, classes: Sequence[str]) -> Split:
        ids = {tag: index for index, tag in enumerate(classes)}
        return Split(
            examples=[Sentence(example.words, example.predicate) for example in examples],
            targets=[[ids[tag] for tag in example.tags] for example in examples],
            names=[self._name(example) for example in examples],
        )

    def _name(self, example: Labelled) -> str:
        """Return where an example stands: file and line and, for a predicate, the column of its roles (from 1)."""
        place = f"{example.file.relative_to(self.folder).as_posix()}:{example.line}"
        return f"{place}:{example.column + 1}" if self.srl else place


def _types(examples: Examples) -> set[str]:
    return {tag[2:] for example in examples for tag in example.tags if tag != OUTSIDE}


def _first_of(types: set[str], examples: Examples) -> tuple[Path, int, str]:
    """Return file and line of the first tag of one of the types, and which it is."""
    for example in examples:
        for line, tag in enumerate(example.tags, example.line):
            if tag != OUTSIDE and tag[2:] in types:
                return example.file, line, tag[2:]
    raise ValueError(types)


def _checksum(splits: Mapping[str, Examples]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            digest.update(json.dumps([split, example.words, example.predicate, example.tags]).encode() + b"\n")
    return digest.hexdigest()
