"""Files in CoNLL's formats: which there are in a folder, and the words and tags in them.

Columns are separated by blanks or tabs, and a blank line ends a sentence. Read are the tags of CoNLL-2002 and 2003 (the
last column, IOB1, BIO or IOBES), the propositions of CoNLL-2005 and those of CoNLL-2012. Whatever the form, the tags
that come out are BIO.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple, NoReturn

from zipeft.errors import UserError
from zipeft.files import read_whole
from zipeft.metrics.tags import OUTSIDE, spans
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

TAG = re.compile(r"O|[BIES](-\S+)?")

BRACKETS = re.compile(r"((?:\([^()*]+)*)\*(\)*)")
"""What a column of roles holds for one word: roles that open, an asterisk, closing brackets."""

VERB = frozenset({"V", "C-V"})
"""The predicate itself, which CoNLL's scorer does not count among the roles."""

WORD_2012, FRAME_2012, ROLES_2012 = 3, 7, 11
"""Columns of a CoNLL-2012 file, from 0: the word, the predicate's frame, the first of the roles (the last is none)."""


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


# --- tags of entities -------------------------------------------------------------------------------------------------


def read_entities(table: Table, tag_column: int = -1) -> tuple[list[Labelled], str]:
    """Return the sentences of a file that has a word in its first column and a tag in ``tag_column``, and the form of
    the tags: "IOB1", "BIO", "IOBES", or "IOB" for a mixture of the first two. Raises ``UserError``.

    Passed over are comments before a sentence, as in CoNLL-U, and a first column that counts the words.
    """
    blocks = [stripped for block in table.blocks if (stripped := _without_comments(block, tag_column)).rows]
    if not blocks:
        table.refuse(table.blocks[0].line, "comments alone: give one word a line, and a blank line after each sentence")
    table.word_column = int(_counts_words(blocks))
    _check_rows(table, blocks, tag_column)
    sentences, forms = [], set()
    for index, block in enumerate(blocks):
        tags = [row[tag_column] for row in block.rows]
        forms |= _peculiarities(tags)
        words = tuple(row[table.word_column] for row in block.rows)
        place = (table.path, block.line, 0, index, block.document)
        sentences.append(Labelled(words, tuple(to_bio(tags)), (), *place))
    return sentences, _form(forms)


def _check_rows(table: Table, blocks: Sequence[Block], tag_column: int) -> None:
    """Raise ``UserError`` for rows of other numbers of columns, what is no tag, and tags of which some have no type."""
    first, typed = blocks[0], {}
    width = len(first.rows[0])
    if not -width < tag_column < width or tag_column % width <= table.word_column:
        reason = "the word comes first, the tag last or in tag_column"
        table.refuse(first.line, f"columns: {width}, none for the tag (tag_column={tag_column}): {reason}")
    for block in blocks:
        for line, row in enumerate(block.rows, block.line):
            if len(row) != width:
                table.refuse(line, f"columns: {len(row)}, where line {first.line} has {width}: repair it")
            if not TAG.fullmatch(tag := row[tag_column]):
                reason = "is not O, or B-, I-, E- or S- and a type: repair it, or set tag_column or format"
                table.refuse(line, f"the tag {tag!r} {reason}")
            if tag != OUTSIDE:
                typed.setdefault("-" in tag, line)
    if len(typed) == 2:
        table.refuse(typed[False], f"the tag has no type, where that of line {typed[True]} has one: repair it")


def _without_comments(block: Block, tag_column: int) -> Block:
    """Return a sentence without the lines before it that begin with "#" and hold no tag."""
    rows = list(dropwhile(lambda row: row[0].startswith("#") and not _is_tagged(row, tag_column), block.rows))
    return Block(rows, block.line + len(block.rows) - len(rows), block.document)


def _is_tagged(row: Row, tag_column: int) -> bool:
    return -len(row) < tag_column < len(row) and TAG.fullmatch(row[tag_column]) is not None


def _counts_words(blocks: Sequence[Block]) -> bool:
    """Whether the first column counts the words of each sentence, from 0 or from 1, and is none of two columns."""
    firsts = [[row[0] for row in block.rows] for block in blocks]
    return (
        all(len(row) > 2 for row in blocks[0].rows)
        and any(len(column) > 1 for column in firsts)
        and any(all(column == _numbers(start, len(column)) for column in firsts) for start in (0, 1))
    )


def _numbers(start: int, count: int) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def to_bio(tags: Sequence[str]) -> list[str]:
    """Return IOB1, BIO or IOBES tags as BIO, with the same spans as ``zipeft.metrics.tags`` sees in them."""
    bio = [OUTSIDE] * len(tags)
    for start, end, kind in spans(tags):
        begin, inside = (f"B-{kind}", f"I-{kind}") if kind else ("B", "I")
        bio[start:end] = [begin] + [inside] * (end - start - 1)
    return bio


def _peculiarities(tags: Sequence[str]) -> set[str]:
    """Return which of the forms the tags of a sentence can only be."""
    found, previous = set(), None  # the type of the span that the word before is in
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if prefix in ("E", "S"):
            found.add("IOBES")
        elif prefix == "I" and kind != previous:
            found.add("IOB1")
        elif prefix == "B" and kind != previous:
            found.add("BIO")
        previous = None if tag == OUTSIDE else kind
    return found


def _form(found: set[str]) -> str:
    if "IOBES" in found:
        return "IOBES"
    return "IOB" if len(found) == 2 else next(iter(found), "BIO")


# --- semantic roles ---------------------------------------------------------------------------------------------------


def read_roles(table: Table) -> list[Labelled]:
    """Return one example for each predicate of a CoNLL-2005 or, where documents are announced, a CoNLL-2012 file.

    The predicate is the word where the column's V begins, else that of the row that names it. V and C-V become "O".
    Raises ``UserError``: rows of other numbers of columns, brackets that do not match, no word or predicate column.
    """
    marks = FRAME_2012 if table.announced else _predicate_column(table)
    examples = []
    for index, block in enumerate(table.blocks):
        columns = _role_columns(table, block, marks)
        marked = [row for row, fields in enumerate(block.rows) if fields[marks] != "-"]
        if not table.announced and len(marked) != len(columns):
            table.refuse(
                block.line, f"predicates: {len(marked)}, columns of roles: {len(columns)}: repair the sentence"
            )
        words = tuple(row[WORD_2012 if table.announced else 0] for row in block.rows)
        for number, column in enumerate(columns):
            tags = _roles(table, block, column)
            verb = next((row for row, tag in enumerate(tags) if tag == "B-V"), None)
            if verb is None and len(marked) != len(columns):
                table.refuse(block.line, f"column {column + 1} marks no V, and no other column tells its predicate")
            predicate = (words[marked[number] if verb is None else verb],)
            tags = tuple(OUTSIDE if tag[2:] in VERB else tag for tag in tags)
            place = (table.path, block.line, column, index, block.document)
            examples.append(Labelled(words, tags, predicate, *place))
    return examples


def _role_columns(table: Table, block: Block, marks: int) -> range:
    """Return the columns of a sentence that hold roles. Raises ``UserError`` if the rows differ, or are too short."""
    width, least = len(block.rows[0]), ROLES_2012 + 1 if table.announced else marks + 1
    for line, row in enumerate(block.rows, block.line):
        if len(row) < least:
            table.refuse(line, f"columns: {len(row)}, where there must be {least} or more: repair it")
        if len(row) != width:
            table.refuse(line, f"columns: {len(row)}, where line {block.line} before it has {width}: repair it")
        if table.announced and row[WORD_2012] == "[WORD]":
            table.refuse(line, "the words are not filled in: make a _conll file of this _skel file first")
    return range(ROLES_2012, width - 1) if table.announced else range(marks + 1, width)


def _roles(table: Table, block: Block, column: int) -> list[str]:
    try:
        return bracket_tags([row[column] for row in block.rows])
    except BracketError as error:
        row, problem = error.args
        table.refuse(block.line + row, f"column {column + 1} {problem}")


class BracketError(ValueError):
    """Brackets that do not match; the arguments are the row, from 0, and what is wrong there."""


def bracket_tags(fields: Sequence[str]) -> list[str]:
    """Return a column of roles such as ``(A0*``, ``*``, ``*)``, ``(V*)`` as BIO tags. Raises ``BracketError``."""
    tags, role, start = [], "", 0
    for row, text in enumerate(fields):
        if (match := BRACKETS.fullmatch(text)) is None:
            raise BracketError(row, f"holds {text!r}, which is not of the form (A0*, *, *) or (A0*)")
        opened, closed = match[1].split("(")[1:], len(match[2])
        if opened:
            if role or len(opened) > 1:
                raise BracketError(row, f"opens {opened[-1]} inside {role or opened[0]}: roles cannot be nested")
            role, start = opened[0], row
        tags.append(f"{'B' if opened else 'I'}-{role}" if role else OUTSIDE)
        if closed > bool(role):
            raise BracketError(row, f"closes a role that is not open, by {text!r}")
        role = "" if closed else role
    if role:
        raise BracketError(start, f"opens {role} and does not close it in the sentence")
    return tags


def _predicate_column(table: Table) -> int:
    """Return the column of a CoNLL-2005 file that names the predicates: as many as there are columns after it, which
    all hold brackets. One sentence has at most one such column; that of most sentences is taken."""
    votes = Counter(column for block in table.blocks[:1000] if (column := _candidate(block.rows)) is not None)
    if not votes:
        reason = "no column names the predicates (or -) with a column of roles for each after it: repair it, or set"
        table.refuse(table.blocks[0].line, f"{reason} format=ner if this is a file of entities")
    column = max(votes, key=votes.__getitem__)
    if column == 0:
        table.refuse(table.blocks[0].line, "no words: put them in front (paste the .words and the .props file)")
    return column


def _candidate(rows: list[Row]) -> int | None:
    width = len(rows[0])
    if any(len(row) != width for row in rows):
        return None
    for column in range(width):
        predicates = sum(row[column] != "-" for row in rows)
        if predicates == width - column - 1 and all(
            BRACKETS.fullmatch(text) for row in rows for text in row[column + 1 :]
        ):
            return column
    return None
