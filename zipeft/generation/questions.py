"""Files of questions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.text.tables import as_text, read_table

ASKED = ("instruction", "text", "turns")
"""The columns of what is asked: in Alpaca's layout, and in FastChat's, which Vicuna's 80 questions have."""

OPTIONAL = (("input",), ("id", "question_id"), ("category",), ("image",), ("options",))


class Question(NamedTuple):
    """What is asked: an instruction, perhaps with an input, an image and the options that it chooses from.

    ``image`` is the path of a file as it was written, "" for none; a relative one begins at ``folder``. ``place`` says
    where the question stands, for messages.
    """

    id: str | int
    instruction: str
    input: str = ""
    category: str = ""
    place: str = "the prompt"
    image: str = ""
    options: tuple[str, ...] = ()
    folder: Path = Path()

    @property
    def image_path(self) -> Path:
        return self.folder / self.image

    def record(self) -> dict[str, Any]:
        """Return it as its answer's line repeats it."""
        optional = {
            **{"input": self.input, "category": self.category},
            **{"image": self.image, "options": list(self.options)},
        }
        return {"id": self.id, "instruction": self.instruction} | {k: v for k, v in optional.items() if v}


def read_questions(path: Path) -> list[Question]:
    """Read questions in Alpaca's layout (``instruction``, perhaps ``input``) or FastChat's (``text`` or ``turns``).

    Either may have ``image``, the path of a file: a relative one begins at the folder of the file of questions, and
    stays inside of it. ``options`` is a list, or a text as ``options_of`` reads it.

    Their ids are those that stand there, as ``id`` or ``question_id``, else the numbers of their lines or rows. Raises
    ``UserError`` that names file and line.
    """
    table = read_table(path, [ASKED], optional=OPTIONAL)
    questions: dict[str, Question] = {}
    repeated: list[tuple[Question, Question]] = []
    for number, values in table.rows:
        question = _question(number, table.place(number), *values)._replace(folder=path.parent)
        first = questions.setdefault(str(question.id), question)
        if first is not question:
            repeated.append((question, first))
    if repeated:
        question, first = repeated[0]
        more = f", and {len(repeated) - 1:,} more have one of another" if len(repeated) > 1 else ""
        raise UserError(f"{question.place} has the id {question.id!r} of {first.place}{more}: give each its own")
    return list(questions.values())


def options_of(text: str, place: str) -> tuple[str, ...]:
    """Return the options that are written as "yes|no". Raises ``UserError`` that names ``place``."""
    return _options(text.split("|"), place)


def _question(
    number: int, place: str, asked: Any, given: Any, id: Any, category: Any, image: Any, options: Any
) -> Question:
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
    image = _image(_text(image or "", place), place)
    if isinstance(options, str):
        options = options_of(options, place) if options.strip() else ()
    elif options:
        options = _options(options, place)
    return Question(id, instruction, given, category, place, image, options or ())


def _image(image: str, place: str) -> str:
    """Return the path of an image that stays in the folder of the file that names it, or begins at a root."""
    if not os.path.isabs(image) and os.path.normpath(image).split(os.sep)[0] == os.pardir:
        raise UserError(f"{place} has the image {image}, outside of the file's folder: give an absolute path for that")
    return image


def _options(options: Any, place: str) -> tuple[str, ...]:
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise UserError(f'{place} has {options!r:.60} for options: give a list of texts, or "yes|no"')
    found = tuple(_text(option, place) for option in options)
    if len(found) < 2 or not all(found) or len(set(found)) < len(found):
        raise UserError(f"{place} has the options {'|'.join(found)}: give two or more, each once, and none empty")
    return found


def _text(value: Any, place: str) -> str:
    text = as_text(value, place).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{place} has half of a surrogate pair in a text: correct it") from None
    return text
