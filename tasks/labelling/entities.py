"""The tags of named entities in CoNLL's files (CoNLL-2002, CoNLL-2003): IOB1, BIO or IOBES, read as BIO."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import dropwhile

from zipeft.metrics.tags import OUTSIDE, spans
from zipeft.tasks.labelling.conll import Block, Labelled, Row, Table

TAG = re.compile(r"O|[BIES](-\S+)?")


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
    """Raise ``UserError`` for rows of unequal length, for what is no tag, and for tags with and without types."""
    first = blocks[0]
    typed: dict[bool, int] = {}
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
