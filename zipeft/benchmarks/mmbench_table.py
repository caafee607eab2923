"""MMBench's table: a TSV with the columns of a spreadsheet, images in base64, and perhaps rotations of questions.

A row whose index is 1,000,000 or more is a rotation of the question with the index modulo 1,000,000: the same, with its
options in another order. An image may be given as the index of the row that holds it.
"""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zipeft.benchmarks.benchmark import picture
from zipeft.errors import UserError, did_you_mean
from zipeft.files import open_text
from zipeft.formatting import listing
from zipeft.images.reading import decoded
from zipeft.objectives.options import LETTERS
from zipeft.text.tables import LONGEST_FIELD
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    from PIL.Image import Image

    from zipeft.api.data import Picture

COLUMNS = ("index", "question", "A", "B", "answer", "l2-category", "image")
ROTATION = 1_000_000

Row = Mapping[str, str]


class Posed(NamedTuple):
    """A question as it stands in a row, or rotated: ``right`` is the index of its right option, ``group`` that of the
    question that it is or is a rotation of."""

    group: int
    question: VisualQuestion
    right: int
    ability: str
    category: str


def find_table(path: Path) -> Path:
    """Return the table that a path is, or the only one in the folder that it is. Raises ``UserError``."""
    if not path.is_dir():
        return path
    found = sorted(entry for entry in path.iterdir() if entry.suffix == ".tsv")
    if len(found) != 1:
        told = f"holds {listing([each.name for each in found])}: name one" if found else "holds no .tsv: name the table"
        raise UserError(f"{path} {told} of MMBench's, such as MMBench_DEV_EN.tsv")
    return found[0]


def read_table(path: Path) -> dict[int, list[Posed]]:
    """Return all rotations of each question, the first as it is in the table, by the question's index.

    Where the table has a question once, its options are rotated here. Raises ``UserError`` that names the row.
    """
    rows = _rows(path)
    splits = sorted({row["split"] for row in rows.values()} if rows and "split" in next(iter(rows.values())) else ())
    if len(splits) > 1:
        raise UserError(f"{path} has the splits {listing(splits)}: give a table of one")
    groups: dict[int, list[Posed]] = {}
    for index in sorted(rows):
        posed = _posed(path, index, rows)
        if index >= ROTATION and posed.group not in groups:
            raise UserError(
                f"{posed.question.name} is a rotation of question {posed.group}, which is not there: add it"
            )
        groups.setdefault(posed.group, []).append(posed)
    return {index: _all_rotations(group) for index, group in groups.items()}


def _rows(path: Path) -> dict[int, Row]:
    """Return the rows by their indices."""
    found: dict[int, Row] = {}
    for place, row in _lines(path):
        if None in row or None in row.values():
            raise UserError(f"{place} has not as many columns as the header: repair the line")
        if not row["index"].isdecimal():
            raise UserError(f"{place} has the index {row['index']!r:.40}: give a whole number")
        if (index := int(row["index"])) in found:
            raise UserError(f"{place} has the index {index}, which a row before it has: give each its own")
        found[index] = row
    if not found:
        raise UserError(f"{path} has no rows: give a table that has some")
    return found


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a TSV in which, as spreadsheets write it, a cell with a tab or a line break is quoted."""
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with open_text(path, newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", strict=True)
            there = reader.fieldnames or ()
            for name in COLUMNS:
                if name not in there:
                    raise UserError(f"{path} has no column {name}{did_you_mean(name, there)}: give MMBench's own table")
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
    except csv.Error as error:
        raise UserError(f"{path} is no table in TSV ({error}): get it again") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8: get it again") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name MMBench's table") from None


# --- rows -------------------------------------------------------------------------------------------------------------


def _posed(path: Path, index: int, rows: Mapping[int, Row]) -> Posed:
    row, place = rows[index], f"{path}, question {index}"
    letters = [letter for letter in LETTERS if row.get(letter, "").strip()]
    if len(letters) < 2 or letters != list(LETTERS[: len(letters)]):
        raise UserError(f"{place} has the options {listing(letters) or 'none'}: give two or more, from A on")
    if not (answer := row["answer"].strip()):
        raise UserError(f"{place} has no answer, as MMBench's test split: give the table of the dev split")
    if answer not in letters:
        raise UserError(f"{place} has the answer {answer!r:.40}, which is none of {listing(letters)}: correct it")
    if not (asked := row["question"].strip()):
        raise UserError(f"{place} asks nothing: fill its question, or take the row out")
    options = tuple(row[letter].strip() for letter in letters)
    question = VisualQuestion(asked, options, _picture(place, index, rows), row.get("hint", "").strip(), place)
    ability, category = row["l2-category"].strip(), row.get("category", "").strip()
    return Posed(index % ROTATION, question, letters.index(answer), ability, category)


def _picture(place: str, index: int, rows: Mapping[int, Row]) -> Picture:
    """Return the picture of a row, which may be that of another row."""
    text = rows[index]["image"].strip()
    if text.isdecimal():
        index = int(text)
        if index not in rows or not (text := rows[index]["image"].strip()) or text.isdecimal():
            raise UserError(f"{place} has the image of question {index}, which has none: correct its image")
    if not text:
        raise UserError(f"{place} has no image: add it in base64, or the index of the row that has it")
    named = f"the image of {place.rpartition(',')[0]}, question {index}"
    return picture(named, partial(_decoded, text, named))


def _decoded(text: str, place: str) -> Image:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"{place} is not base64 ({error}): get the benchmark's files again") from None
    return decoded(content, place)


# --- rotations --------------------------------------------------------------------------------------------------------


def _all_rotations(group: list[Posed]) -> list[Posed]:
    """Return the rows of a question, if there are several; else its one row, and its rotations."""
    (first, *more) = group
    return group if more else [rotated(first, by) for by in range(len(first.question.options))]


def rotated(posed: Posed, by: int) -> Posed:
    """Return a question with its options moved up by so many places, the first ones to the end."""
    options = posed.question.options
    moved = (*options[by:], *options[:by])
    name = f"{posed.question.name}, rotated by {by}" if by else posed.question.name
    return posed._replace(
        question=posed.question._replace(options=moved, name=name), right=(posed.right - by) % len(options)
    )
