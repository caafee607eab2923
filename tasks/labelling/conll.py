"""Files in CoNLL's formats: which there are in a folder, and the rows of their sentences.

Columns are separated by blanks or tabs, and a blank line ends a sentence. ``entities`` and ``roles`` read the tags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from zipeft.errors import UserError
from zipeft.files import read_whole
from zipeft.sources.folder import unreadable

Row = list[str]

SUFFIXES = (".txt", ".conll", ".tsv", ".bio", ".iob2", ".props", "_conll")
"""What names of files end in, beside ``ORIGINAL``; those of predicted annotation, ``_auto_conll``, are passed over."""

ORIGINAL = (".train", ".testa", ".testb")
"""The endings of CoNLL-2003's own names: eng.train, eng.testa, eng.testb."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation", "testa"), "validation"),
    **dict.fromkeys(("test", "testing", "testb"), "test"),
}


class Labelled(NamedTuple):
    """One example: words, their tags, and the predicate whose roles the tags are (empty for entities). ``file``,
    ``line`` (of the first word, from 1) and ``column`` say where it stands, ``sentence`` and ``document`` what it is a
    part of, counted in its file."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    predicate: tuple[str, ...]
    file: Path
    line: int
    column: int
    sentence: int
    document: int


class Block(NamedTuple):
    """The rows of a sentence, the line in which they begin, and the document that they are in."""

    rows: list[Row]
    line: int
    document: int


@dataclass
class Table:
    """What a file holds. ``announced``: it names its documents as CoNLL-2012 does. ``word_column`` is where the words
    of a file of entities are found."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    announced: bool = False
    word_column: int = 0

    def refuse(self, line: int, problem: str) -> NoReturn:
        raise UserError(f"{self.path} line {line}: {problem}")


# --- which files there are --------------------------------------------------------------------------------------------


def find_splits(folder: Path) -> dict[str, list[Path]]:
    """Return the files in ``folder`` by split: "train", "validation", "test", and "brown" for CoNLL-2005's second test.

    A split is a file, or a folder of files at any depth, in whose name exactly one of them is a word, as in train.txt,
    eng.testa, conll05.devel.txt or test.wsj.props. Raises ``UserError`` where there are two of one split.
    """
    found: dict[str, list[Path]] = {}
    owner: dict[str, str] = {}
    for entry in _entries(folder):
        if not (split := _split_of(entry.name)) or not (files := _files(entry)):
            continue
        if split in found:
            raise UserError(f"{folder} has two {split} sets, {owner[split]} and {entry.name}: keep one")
        found[split], owner[split] = files, entry.name
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise unreadable(error) from None


def _split_of(name: str) -> str:
    words = re.split(r"[._\s-]+", name.lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(splits) != 1:
        return ""
    (split,) = splits
    return "brown" if split == "test" and "brown" in words else split


def _files(entry: Path) -> list[Path]:
    if entry.is_dir():
        return [file for inner in _entries(entry) for file in _files(inner)]
    name = entry.name.lower()
    return [entry] if name.endswith((*SUFFIXES, *ORIGINAL)) and not name.endswith("_auto_conll") else []


# --- lines ------------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> Table:
    """Read the rows of a file by sentence. Raises ``UserError`` for a file that is empty or not in UTF-8."""
    table, document, fresh = Table(path), 0, True
    known: dict[str, str] = {}  # most columns repeat a few values: one copy of each is kept
    for number, line in enumerate(_text(path).split("\n"), 1):
        row = [known.setdefault(text, text) for text in re.split(r"[ \t]+", line.strip(" \t\r")) if text]
        announced = line.startswith(("#begin document", "#end document"))
        table.announced |= announced
        if announced or row[:1] == ["-DOCSTART-"]:
            document = table.blocks[-1].document + 1 if table.blocks else 0
            fresh = True
        elif not row:
            fresh = True
        elif fresh:
            table.blocks.append(Block([row], number, document))
            fresh = False
        else:
            table.blocks[-1].rows.append(row)
    if not table.blocks:
        raise UserError(f"{path} holds no sentence: give it one word a line, and a blank line after each sentence")
    return table


def _text(path: Path) -> str:
    try:
        content = read_whole(path)
    except OSError as error:
        raise unreadable(error) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path} line {line} is not UTF-8 ({error.reason}): convert the file") from None


def holds_roles(table: Table) -> bool:
    """Whether a file looks like one of semantic roles rather than of tags, by its last column."""
    last = [row[-1] for block in table.blocks for row in block.rows]
    brackets = sum(text == "-" or "*" in text for text in last)
    return table.announced or (any("*" in text for text in last) and 2 * brackets > len(last))
