"""A file of answers, which grows while they are made and is gone on with where it was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from zipeft.errors import UserError
from zipeft.generation.questions import Question
from zipeft.json_lines import JsonLines


class AnswerFile:
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

    def __enter__(self) -> AnswerFile:
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
