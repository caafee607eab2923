"""One problem of ScienceQA's problems.json: what is asked, which answer is right, which categories it counts for.

Its lecture and its solution are not read: they say what the answer is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zipeft.api.data import Picture
from zipeft.errors import UserError
from zipeft.files import safe_name
from zipeft.objectives.options import LETTERS, Answer
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    from zipeft.vqa.assembly import Asked

SUBJECTS = {"natural science": "NAT", "social science": "SOC", "language science": "LAN"}

CATEGORIES = ("NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12")
"""The categories of ScienceQA's tables (arXiv 2209.09513), in their order: by subject; with a text context,
with an image, with neither; by grade. A problem with text and image counts for both."""

MOST = len(LETTERS)
"""Options of a problem: so many letters answer it."""

FindPicture = Callable[[str], Picture | None]
"""Returns the picture of a problem, by the name of its file; None if it is not there."""


def asked_of(where: str, number: str, problem: Any, find_picture: FindPicture | None) -> Asked:
    """Return a problem as a question and its answer, without its picture if there is no way to find it.

    ``where`` names the file and the problem, whose id is ``number``. Raises ``UserError`` for what is no problem.
    """
    if not isinstance(problem, dict):
        raise UserError(f"{where} is no JSON object: correct it")
    question, hint = _text(where, problem, "question"), _text(where, problem, "hint", optional=True)
    options = _options(where, problem)
    index = _index(where, problem, len(options))
    picture = _picture(where, problem, find_picture) if find_picture and has_image(problem) else None
    groups = categories(where, problem, bool(hint))
    asked = VisualQuestion(question, options, picture, hint, f"problem {number}")
    return asked, Answer(index, options, groups, asked=question)


def categories(where: str, problem: Mapping[str, Any], has_text: bool) -> tuple[str, ...]:
    """Return which ``CATEGORIES`` a problem counts for. Raises ``UserError`` for an unknown subject or grade."""
    subject, grade = _text(where, problem, "subject"), _text(where, problem, "grade")
    if subject not in SUBJECTS:
        raise UserError(f"{where} has the subject {subject!r:.60}: give one of {', '.join(SUBJECTS)}")
    found = re.fullmatch("grade([1-9]|1[0-2])", grade)
    if not found:
        raise UserError(f"{where} has the grade {grade!r:.60}: give grade1 to grade12")
    context = {"TXT": has_text, "IMG": has_image(problem), "NO": not (has_text or has_image(problem))}
    years = "G1-6" if int(found[1]) <= 6 else "G7-12"
    return (SUBJECTS[subject], *(name for name, has in context.items() if has), years)


def has_image(problem: Any) -> bool:
    """Whether a problem names an image."""
    return isinstance(problem, dict) and problem.get("image") not in (None, "")


def _options(where: str, problem: Mapping[str, Any]) -> tuple[str, ...]:
    options = problem.get("choices")
    if not isinstance(options, list) or not 2 <= len(options) <= MOST:
        raise UserError(f"{where} has no list of 2 to {MOST} choices: correct it")
    return tuple(_checked(where, "choice", option) for option in options)


def _index(where: str, problem: Mapping[str, Any], options: int) -> int:
    index = problem.get("answer")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < options:
        raise UserError(f"{where} has the answer {index!r:.60}, and its options are 0 to {options - 1}: correct it")
    return index


def _picture(where: str, problem: Mapping[str, Any], find_picture: FindPicture) -> Picture:
    name = _text(where, problem, "image")
    if safe_name(name) != name:
        raise UserError(f"{where} names the image {name!r:.60}, which is no plain file name: correct it")
    picture = find_picture(name)
    if picture is None:
        raise UserError(
            f"{where} names the image {name}, which is not there: add it, or set scienceqa.images to hidden, to ask "
            "without images, or to left_out"
        )
    return picture


def _text(where: str, problem: Mapping[str, Any], field: str, *, optional: bool = False) -> str:
    """Return a text without blanks around it; "" for an optional one that is missing, empty or null."""
    if optional and not problem.get(field):
        return ""
    text = _checked(where, field, problem.get(field))
    if not (text or optional):
        raise UserError(f"{where} has a blank {field}: correct it")
    return text


def _checked(where: str, field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where} has no {field} that is text: correct it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where} has half of a surrogate pair in its {field}: correct it") from None
    return value.strip()
