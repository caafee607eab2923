"""Semantic roles in CoNLL's files: the propositions of CoNLL-2005 and of CoNLL-2012, read as BIO tags."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from zipeft.metrics.tags import OUTSIDE
from zipeft.tasks.labelling.conll import Block, Labelled, Row, Table

BRACKETS = re.compile(r"((?:\([^()*]+)*)\*(\)*)")
"""What a column of roles holds for one word: roles that open, an asterisk, closing brackets."""

VERB = frozenset({"V", "C-V"})
"""The predicate itself, which CoNLL's scorer does not count among the roles."""

WORD_2012, FRAME_2012, ROLES_2012 = 3, 7, 11
"""Columns of a CoNLL-2012 file, from 0: the word, the predicate's frame, the first of the roles (the last is none)."""


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
            own = tuple(OUTSIDE if tag[2:] in VERB else tag for tag in tags)
            place = (table.path, block.line, column, index, block.document)
            examples.append(Labelled(words, own, predicate, *place))
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
