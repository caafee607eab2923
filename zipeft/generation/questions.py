"""Files of questions, and the file of answers to them, which grows while they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.json_lines import JsonLines
from zipeft.text.tables import as_text, read_table

ASKED = ("instruction", "text", "turns")
"""The columns of what is asked: in Alpaca's layout, and in FastChat's, which Vicuna's 80 questions have."""

COLUMNS = (ASKED, ("input", *ASKED), ("id", "question_id", *ASKED), ("category", *ASKED))
"""One that is missing gives what is asked once more, which is how it is told."""


class Question(NamedTuple):
    """What is asked: an instruction, perhaps with an input. ``place`` says where it stands, for messages."""

    id: str | int
    instruction: str
    input: str = ""
    category: str = ""
    place: str = "the prompt"

    def record(self) -> dict[str, Any]:
        """Return it as its answer's line repeats it."""
        optional = {"input": self.input, "category": self.category}
        return {"id": self.id, "instruction": self.instruction} | {k: v for k, v in optional.items() if v}


def read_questions(path: Path) -> list[Question]:
    """Read questions in Alpaca's layout (``instruction``, perhaps ``input``) or FastChat's (``text`` or ``turns``).

    Their ids are those that stand there, as ``id`` or ``question_id``, else the numbers of their lines or rows. Raises
    ``UserError`` that names file and line.
    """
    table = read_table(path, COLUMNS)
    questions: dict[str, Question] = {}
    repeated: list[tuple[Question, Question]] = []
    for number, values in table.rows:
        question = _question(number, table.place(number), *values)
        first = questions.setdefault(str(question.id), question)
        if first is not question:
            repeated.append((question, first))
    if repeated:
        question, first = repeated[0]
        more = f", and {len(repeated) - 1:,} more have one of another" if len(repeated) > 1 else ""
        raise UserError(f"{question.place} has the id {question.id!r} of {first.place}{more}: give each its own")
    return list(questions.values())


def _question(number: int, place: str, asked: Any, given: Any, id: Any, category: Any) -> Question:
    given, id, category = (None if value is asked else value for value in (given, id, category))
    if isinstance(asked, list):
        if len(asked) != 1:
            raise UserError(f"{place} has {len(asked)} turns, of which only a single one can be answered: split them")
        (asked,) = asked
    if id is None:
        id = number
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise UserError(f"{place} has the id {id!r}: give a string or a whole number")
    texts = [_text(value, place) for value in (asked, given or "", category or "")]
    if not texts[0]:
        raise UserError(f"{place} has an empty instruction: write one, or take the record out")
    return Question(id, *texts, place)


def _text(value: Any, place: str) -> str:
    text = as_text(value, place).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place} has half of a surrogate pair in a text: correct it") from None
    return text


class Answers:
    """The file of answers, a line of JSON each; a context, in which no other process may write the file.

    A line repeats the question and says what gave the answer. What is in the file already is ``given``; it must be of
    these questions and of the same origin. See ``zipeft.json_lines`` for what is cut off. Raises ``UserError`` for a
    file that holds anything else, or cannot be written.

    Args:
        path: of the file.
        questions: all that are asked.
        origin: what every line says of what gave the answer.
    """

    def __init__(self, path: Path, questions: Sequence[Question], origin: Mapping[str, Any]) -> None:
        self.origin = origin
        self.questions = {str(question.id): question for question in questions}
        self.given: set[str] = set()
        self._lines = JsonLines(path, "answer", b'{"id": ', self._take)

    def __enter__(self) -> Answers:
        self._lines.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.__exit__(kind, error, trace)

    def lacks(self, question: Question) -> bool:
        return str(question.id) not in self.given

    def add(self, answered: Sequence[tuple[Question, str, int]]) -> None:
        """Write answers, each with its question and the number of its tokens; they are on disk when this returns."""
        self._lines.add(
            {**question.record(), "answer": answer, "tokens": tokens, **self.origin}
            for question, answer, tokens in answered
        )
        self.given.update(str(question.id) for question, _, _ in answered)

    def _take(self, record: Mapping[str, Any], place: str) -> None:
        """Take an answer that is there. Raises ``UserError`` unless it is to one of the questions, of this origin."""
        if not isinstance(record.get("answer"), str):
            raise self._lines.foreign(place)
        id = str(record.get("id"))
        if id not in self.questions or id in self.given:
            state = "is answered before" if id in self.given else "is not asked now"
            raise UserError(f"{place} answers the question {id!r}, which {state}: give another --out")
        there, now = _flat(record), _flat({**self.questions[id].record(), **self.origin, "id": record["id"]})
        for name, value in now.items():
            if there.get(name) != value:
                raise UserError(
                    f"{place} has the {name} {there.get(name)!r:.60} where it now is {value!r:.60}: give another --out"
                )
        self.given.add(id)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line's fields with its settings among them."""
    settings = record.get("settings")
    return {**record, "settings": None, **(settings if isinstance(settings, Mapping) else {})}
