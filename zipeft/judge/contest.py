"""The files that are compared: answers as ``zipeft generate`` or FastChat writes them, and FastChat's questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zipeft import strict_json
from zipeft.errors import UserError, one_line
from zipeft.files import read_whole
from zipeft.formatting import counted
from zipeft.text.tables import as_text

Turns = tuple[str, ...]
"""What one side says in a conversation, turn by turn; mostly there is a single turn."""


class AskedQuestion(NamedTuple):
    """What was asked, and where that is written."""

    place: str
    turns: Turns
    category: str


class GivenAnswer(NamedTuple):
    """An answer, with the question that stands beside it in the file; ``question.turns`` is empty if there is none."""

    place: str
    turns: Turns
    question: AskedQuestion
    model: str


@dataclass(frozen=True)
class Pair:
    """A question and the answers of both files to it."""

    id: str
    category: str
    question: Turns
    answers: tuple[Turns, Turns]


@dataclass(frozen=True)
class Contest:
    """What is compared: the names of both files' models, and the pairs of answers.

    ``left_out`` counts the questions that ``allow_missing`` left out.
    """

    names: tuple[str, str]
    pairs: list[Pair]
    left_out: int


Row = TypeVar("Row", AskedQuestion, GivenAnswer)


def read_contest(a: Path, b: Path, questions: Path | None = None, allow_missing: bool = False) -> Contest:
    """Read two files of answers, and the file of the questions where the answers' files do not say what was asked.

    Raises ``UserError`` that names file and line: what is no JSON, lacks a field, or stands there twice; a question
    that one side has not answered, unless with ``allow_missing``; answers to different questions.
    """
    answers = [_read(path, _answer) for path in (a, b)]
    asked = _read(questions, _question) if questions else _own_questions(answers)
    sources: dict[Path, Mapping[str, Any]] = {a: answers[0], b: answers[1]} | ({questions: asked} if questions else {})
    ids = list(dict.fromkeys([*asked, *answers[0], *answers[1]]))
    needed: list[Mapping[str, Any]] = [asked, *answers]
    common = [id for id in ids if all(id in entries for entries in needed)]
    if len(common) < len(ids) and not allow_missing:
        _refuse_missing(ids, sources)
    if not common:
        raise UserError(f"{a} and {b} have no question in common: give two files of answers to the same questions")
    pairs = [_pair(id, asked[id], answers[0][id], answers[1][id]) for id in common]
    names = _name(a, answers[0]), _name(b, answers[1])
    return Contest(names, pairs, len(ids) - len(common))


# --- putting together -------------------------------------------------------------------------------------------------


def _own_questions(answers: Sequence[Mapping[str, GivenAnswer]]) -> dict[str, AskedQuestion]:
    """Return the questions that stand beside the answers, those of the first file where both have them."""
    asked: dict[str, AskedQuestion] = {}
    for entries in answers:
        for id, answer in entries.items():
            if id not in asked or not asked[id].turns:
                asked[id] = answer.question
    for question in asked.values():
        if not question.turns:
            raise UserError(f"{question.place} does not say what was asked: name the file of questions by --questions")
    return asked


def _refuse_missing(ids: Sequence[str], sources: Mapping[Path, Mapping[str, Any]]) -> None:
    missing = [(id, path) for id in ids for path, entries in sources.items() if id not in entries]
    (id, path), number = missing[0], len({id for id, _ in missing})
    raise UserError(
        f"{path} lacks question {id!r} ({counted(number, 'question is', 'questions are')} not in all files): "
        "add what is missing, or judge the common ones with --allow-missing"
    )


def _pair(id: str, question: AskedQuestion, *answers: GivenAnswer) -> Pair:
    for answer in answers:
        if answer.question.turns and not _same(answer.question.turns, question.turns):
            raise UserError(f"{answer.place} answers another question than {question.place}, with the same id {id!r}")
        if len(answer.turns) != len(question.turns):
            turns = counted(len(answer.turns), "turn")
            raise UserError(f"{answer.place} has {turns}, and question {id!r} has {len(question.turns)}: answer each")
    category = next(filter(None, (question.category, *(answer.question.category for answer in answers))), "")
    return Pair(id, category, question.turns, (answers[0].turns, answers[1].turns))


def _same(one: Turns, other: Turns) -> bool:
    """Whether two questions are the same but for white space."""
    return [turn.split() for turn in one] == [turn.split() for turn in other]


def _name(path: Path, answers: Mapping[str, GivenAnswer]) -> str:
    """Return the model that gave a file's answers, or the file's own name if it does not tell one."""
    models = {answer.model for answer in answers.values()}
    return models.pop() if len(models) == 1 and models != {""} else path.stem


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(path: Path, parse: Callable[[Mapping[str, Any], str], Row]) -> dict[str, Row]:
    """Return a file's entries by the ids of their questions, in the order of the file."""
    entries: dict[str, Row] = {}
    repeated: list[tuple[str, str]] = []
    for place, record in _records(path):
        id = _id(record, place)
        if id in entries:
            repeated.append((place, id))
        else:
            entries[id] = parse(record, place)
    if repeated:
        place, id = repeated[0]
        more = f" (as {len(repeated) - 1:,} more have one that is there)" if len(repeated) > 1 else ""
        raise UserError(f"{place} has the id {id!r} again, after {entries[id].place}{more}: keep one of them")
    if not entries:
        raise UserError(f"{path} is empty: give a file with a JSON object a line")
    return entries


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a file of JSON lines, each with its place for messages: "answers.jsonl, line 7"."""
    try:
        lines = read_whole(path).removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}): check it and its permissions") from None
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = strict_json.parse(line.decode())
        except ValueError as error:  # bytes that are no UTF-8 are a ValueError, too
            raise UserError(f"{place} is not valid JSON ({one_line(error)}): repair it") from None
        if not isinstance(record, Mapping):
            raise UserError(f"{place} is not a JSON object: give one a line")
        yield place, record


def _answer(record: Mapping[str, Any], place: str) -> GivenAnswer:
    question = AskedQuestion(place, _instruction(record, place), _optional(record, "category", place))
    model = _optional(record, "model", place) or _optional(record, "model_id", place)
    if "choices" in record:
        return GivenAnswer(place, _turns(_first_choice(record, place), place), question, model)
    name = next((name for name in ("answer", "text") if name in record), None)
    if name is None:
        raise UserError(f"{place} has no answer: give it as 'answer', or as FastChat does, as 'text' or 'choices'")
    return GivenAnswer(place, (_text(record[name], place),), question, model)


def _question(record: Mapping[str, Any], place: str) -> AskedQuestion:
    if "turns" in record:
        turns = _turns(record, place)
    elif "text" in record:
        turns = (_text(record["text"], place),)
    else:
        turns = _instruction(record, place)
    if not turns:
        raise UserError(f"{place} has no question: give it as 'text', 'turns' or 'instruction'")
    return AskedQuestion(place, turns, _optional(record, "category", place))


def _instruction(record: Mapping[str, Any], place: str) -> Turns:
    """Return the instruction with its input as one turn, or nothing if there is none."""
    if "instruction" not in record:
        return ()
    parts = [_text(record["instruction"], place), _optional(record, "input", place)]
    return ("\n\n".join(part for part in parts if part.strip()),)


def _first_choice(record: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    choices = record["choices"]
    if not (isinstance(choices, list) and choices and isinstance(choices[0], Mapping)):
        raise UserError(f"{place} has no choice with turns: give 'choices' as FastChat does")
    return choices[0]


def _turns(record: Mapping[str, Any], place: str) -> Turns:
    turns = record.get("turns")
    if not (isinstance(turns, list) and turns):
        raise UserError(f"{place} has no turns: give a list of texts")
    return tuple(_text(turn, place) for turn in turns)


def _id(record: Mapping[str, Any], place: str) -> str:
    """Return the id of a question; whether it is written as a number or as a string is the same."""
    id = record.get("question_id", record.get("id"))
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise UserError(f"{place} has no id of its question: give a string or a whole number as 'id' or 'question_id'")
    return _text(str(id), place)


def _optional(record: Mapping[str, Any], name: str, place: str) -> str:
    value = record.get(name)
    return "" if value is None else _text(value, place)


def _text(value: Any, place: str) -> str:
    text = as_text(value, place)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place} has half of a surrogate pair in a text, which is no character: repair it") from None
    return text
