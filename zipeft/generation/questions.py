"""Files of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.text.tables import as_text, read_table

ASKED = ("instruction", "text", "turns")
"""The columns of what is asked: in Alpaca's layout, and in FastChat's, which Vicuna's 80 questions have."""

OPTIONAL = (("input",), ("id", "question_id"), ("category",))


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
    table = read_table(path, [ASKED], optional=OPTIONAL)
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
    if isinstance(asked, list):
        if len(asked) != 1:
            raise UserError(f"{place} has {len(asked)} turns, of which only a single one can be answered: split them")
        (asked,) = asked
    if id is None:
        id = number
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise UserError(f"{place} has the id {id!r}: give a string or a whole number")
    instruction, given, category = (_text(value, place) for value in (asked, given or "", category or ""))
    if not instruction:
        raise UserError(f"{place} has an empty instruction: write one, or take the record out")
    return Question(id, instruction, given, category, place)


def _text(value: Any, place: str) -> str:
    text = as_text(value, place).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place} has half of a surrogate pair in a text: correct it") from None
    return text
