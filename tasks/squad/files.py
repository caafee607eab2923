"""Reading questions, contexts and answers from files: SQuAD's JSON, and rows as the ``datasets`` library has them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

from zipeft import strict_json
from zipeft.errors import UserError
from zipeft.files import open_file, read_text
from zipeft.formatting import counted
from zipeft.objectives.extractive_qa import Answers
from zipeft.sources.folder import unreadable


class Question(NamedTuple):
    """A question and the text that is to answer it."""

    text: str
    context: str


class Record(NamedTuple):
    """A question of a file. ``article`` is the title of the article of its context, "" where none is given."""

    id: str
    article: str
    question: Question
    answers: Answers


class Repairs(NamedTuple):
    """What is done about faults of files that are refused otherwise; see the settings of the task."""

    move_answers: bool = False
    drop_repeated: bool = False


AS_IT_IS = Repairs()


@dataclass
class QuestionListing:
    """The questions of some files in their order, and how many answers had to be moved to where they stand, how many
    questions were dropped for their id, and how many left out as their context does not hold their answer."""

    records: list[Record] = field(default_factory=list)
    moved: int = 0
    repeated: int = 0
    unfounded: int = 0


class NotInContext(UserError):
    """The context of a question does not hold its answer."""


def read_questions(paths: Sequence[Path], repairs: Repairs = AS_IT_IS, learnt: bool = False) -> QuestionListing:
    """Read the questions of one or more files.

    A file is JSON in SQuAD's layout ({"data": [{"title", "paragraphs": [{"context", "qas"}]}]}), or it has one row a
    question ({"id", "context", "question", "answers"}, perhaps "title"): a JSON list, alone or as "data", JSON lines,
    or parquet. Answers are [{"text", "answer_start"}] or {"text": [], "answer_start": []}, empty or null where there is
    none.

    An answer has to stand in the context at its start, in characters, in whatever form of Unicode. One that does not is
    moved to the nearest place where it does, if ``repairs`` say so, and of questions with one id the first is taken.
    Questions that are to be ``learnt`` are left out where the context does not hold an answer. Raises ``UserError``
    that names the file and the question for anything else.
    """
    listing = QuestionListing()
    ids: set[str] = set()
    repeated: list[tuple[Path, str]] = []
    contexts: dict[str, str] = {}
    for path in paths:
        before = len(listing.records)
        for place, row in _rows(path):
            try:
                record, moved = _record(path, place, row, repairs.move_answers)
            except NotInContext:
                if not learnt:
                    raise
                listing.unfounded += 1
                continue
            if record.id in ids:
                repeated.append((path, record.id))
                continue
            ids.add(record.id)
            # Rows repeat their context; one copy of each is kept.
            context = contexts.setdefault(record.question.context, record.question.context)
            listing.records.append(record._replace(question=record.question._replace(context=context)))
            listing.moved += moved
        if len(listing.records) == before:
            left = f" but {listing.unfounded} whose answer is not in their context" if listing.unfounded else ""
            raise UserError(f"{path} holds no questions{left}: name another file")
    if repeated and not repairs.drop_repeated:
        raise UserError(f"{repeated[0][0]}: {_named(repeated)}")
    listing.repeated = len(repeated)
    return listing


def _named(repeated: Sequence[tuple[Path, str]]) -> str:
    some = ", ".join(f"{id_!r:.40}" for _, id_ in repeated[:3]) + ", ..." * (len(repeated) > 3)
    many = f"{counted(len(repeated), 'question')} {'have' if len(repeated) > 1 else 'has'} the id of an earlier one"
    return f"{many} ({some}): give each its own, or set squad.drop_repeated=true to take the first of each"


# --- rows -------------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each question of a file as a row, with words for where it is."""
    if (suffix := path.suffix.lower()) not in (".json", ".jsonl", ".parquet"):
        raise UserError(f"{path} is of no known kind: give .json, .jsonl or .parquet")
    rows = _parquet(path) if suffix == ".parquet" else _json(path)
    if isinstance(rows, dict):
        rows = [rows] if "context" in rows else rows.get("data")  # a file of JSON lines may have one line
    if not isinstance(rows, list):
        raise UserError(f'{path} is not of a known layout: expected {{"data": [...]}} as SQuAD has it, or rows')
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _flat(path, f"article {number}", row)
        else:
            yield f"row {number}", row


def _flat(path: Path, place: str, article: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the questions of an article in SQuAD's layout as rows."""
    for number, paragraph in enumerate(_get(f"{path}: {place}", article, "paragraphs", list), 1):
        inside = f"{place}, paragraph {number}"
        context = _get(f"{path}: {inside}", paragraph, "context", str)
        for asked, row in enumerate(_get(f"{path}: {inside}", paragraph, "qas", list), 1):
            outer = {"title": article.get("title", ""), "context": context}
            yield f"{inside}, question {asked}", {**row, **outer} if isinstance(row, dict) else row


def _json(path: Path) -> Any:
    """Return the content of a JSON file; of JSON lines, which some name .json, a list."""
    try:
        text = read_text(path)
    except OSError as error:
        raise unreadable(error) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: convert it") from None
    try:
        return strict_json.parse(text)
    except ValueError as error:
        if len(lines := _lines(text)) > 1 and (path.suffix.lower() == ".jsonl" or _is_object(lines[0][1])):
            return [_line(path, number, line) for number, line in lines]
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else error
        raise UserError(f"{path} is no JSON ({where}): it may have been cut off, get it again") from None


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _is_object(line: str) -> bool:
    try:
        return isinstance(strict_json.parse(line), dict)
    except ValueError:
        return False


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return strict_json.parse(line)
    except ValueError as error:
        reason = getattr(error, "msg", error)
        raise UserError(f"{path} is no JSON in line {number} ({reason}): correct or remove the line") from None


def _parquet(path: Path) -> list[Any]:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_file(path) as file:
            return parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read as parquet ({' '.join(str(error).split())}): get it again") from None


# --- questions --------------------------------------------------------------------------------------------------------


def _record(path: Path, place: str, row: Any, move_answers: bool) -> tuple[Record, int]:
    """Return the record of a row, and how many of its answers were moved."""
    where = f"{path}: {place}"
    id_ = str(_get(where, row, "id", str | int))
    where = f"{path}: question {id_!r}"
    context = _get(where, row, "context", str)
    if not context.strip():
        raise UserError(f"{where} has a blank context: correct or remove it")
    given = _answers(where, row)
    impossible = row.get("is_impossible")
    if impossible is not None and impossible == bool(given):
        told = "is_impossible, but has answers" if given else "not is_impossible, but has no answers"
        raise UserError(f"{where} is {told}: correct or remove it")
    placed = [_placed(where, context, text, start, move_answers) for text, start in given]
    moved = sum(start != before for (_, start), (_, before) in zip(placed, given, strict=True))
    title = row.get("title")
    question = Question(_get(where, row, "question", str), context)
    try:
        "".join(question).encode()
    except UnicodeEncodeError:
        raise UserError(f"{where} has half of a surrogate pair in its text: correct or remove it") from None
    answers = Answers(tuple(text for text, _ in placed), tuple(start for _, start in placed))
    return Record(id_, title if isinstance(title, str) else "", question, answers), moved


def _answers(where: str, row: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the texts and starts of a row's answers, in either layout."""
    value = row.get("answers", "")
    if value is None:
        return []
    if isinstance(value, dict):
        texts, starts = (_get(f"{where}: answers", value, name, list) for name in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise UserError(f"{where} has {len(texts)} answers but {len(starts)} answer_start: correct or remove it")
        value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    if not isinstance(value, list):
        raise UserError(f"{where} has no list 'answers': add it, empty where the context holds no answer")
    inside = f"{where}: an answer"
    return [(_get(inside, answer, "text", str), _get(inside, answer, "answer_start", int)) for answer in value]


def _placed(where: str, context: str, text: str, start: int, move: bool) -> tuple[str, int]:
    """Return an answer as its context writes it, and where it starts: at ``start``, else if it may ``move`` at the
    nearest place where it stands."""
    if not text.strip():
        raise UserError(f"{where} has a blank answer: correct it, or give no answers if the context holds none")
    forms = [text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))]
    if start >= 0 and (there := [form for form in forms if context.startswith(form, start)]):
        return there[0], start
    text = next((form for form in forms if form in context), text)
    if (nearest := _nearest(context, text, start)) is None:
        raise NotInContext(f"{where} has an answer that is not in its context: correct or remove it")
    if not move:
        raise UserError(
            f"{where} has an answer that starts at character {nearest} of its context, not at answer_start {start}: "
            "correct it, or set squad.move_answers=true to take the nearest place where it stands"
        )
    return text, nearest


def _nearest(context: str, text: str, start: int) -> int | None:
    """Return where ``text`` stands in the context nearest to ``start``, None if nowhere."""
    after = context.find(text, max(start, 0))
    before = context.rfind(text, 0, max(start, 0) + len(text) - 1)
    found = [place for place in (before, after) if place >= 0]
    return min(found, key=lambda place: abs(place - start)) if found else None


def _get(where: str, row: Any, name: str, kind: type | UnionType) -> Any:
    """Return a field of a row. Raises ``UserError`` if it is missing or of another type."""
    words: dict[Any, str] = {str: "text", list: "a list", int: "a whole number", str | int: "text or a whole number"}
    if not isinstance(row, dict):
        raise UserError(f"{where} is no JSON object: correct or remove it")
    if row.get(name) is None:
        raise UserError(f"{where} has no {name!r}: add it, or name a file in SQuAD's layout")
    if not isinstance(row[name], kind) or isinstance(row[name], bool):
        raise UserError(f"{where} has a {name!r} that is not {words[kind]}: correct or remove it")
    return row[name]
