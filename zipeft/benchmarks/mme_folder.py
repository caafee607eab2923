"""MME's folders: a subtask each, in which a text of two questions lies beside each image.

Image and text have one name ("0001.jpg", "0001.txt"). They lie in the subtask's folder, or in ``images`` and
``questions_answers_YN`` in it. A text has two lines: a question, a tab, and Yes or No.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from zipeft.benchmarks.benchmark import picture
from zipeft.errors import UserError
from zipeft.files import read_text
from zipeft.formatting import counted, listing
from zipeft.images.reading import read_image, suffixes
from zipeft.sources.package_index import sha256_of
from zipeft.vqa.question import VisualQuestion

OPTIONS = ("Yes", "No")


class Asked(NamedTuple):
    """An image of a subtask with its two questions, and the answers, "yes" or "no", to them."""

    subtask: str
    image: Path
    text: Path
    questions: tuple[VisualQuestion, VisualQuestion]
    answers: tuple[str, str]


def read_folder(folder: Path, subtasks: Sequence[str]) -> list[Asked]:
    """Return all images of the subtasks whose folders are there, in the order of both.

    Raises ``UserError`` that names what is malformed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one that holds MME's subtasks")
    there = [name for name in subtasks if (folder / name).is_dir()]
    if not there:
        raise UserError(f"{folder} holds none of MME's subtasks: give the folder with {listing(subtasks)} in it")
    return [image for name in there for image in _read_subtask(folder / name)]


def checksum_of(folder: Path, images: Sequence[Asked]) -> str:
    """Return a SHA-256 of the names and the content of all images and texts."""
    digest = hashlib.sha256()
    for path in (path for image in images for path in (image.image, image.text)):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _read_subtask(folder: Path) -> list[Asked]:
    images, texts = _images(_inner(folder, "images")), _texts(_inner(folder, "questions_answers_YN"))
    for stem in sorted(images.keys() ^ texts.keys()):
        if stem in images:
            raise UserError(f"{images[stem]} has no text of questions: add {stem}.txt, or take the image out")
        raise UserError(f"{texts[stem]} asks about an image that is not there: add it, or take the text out")
    if not images:
        raise UserError(f"{folder} has no images: fill it, or take it out")
    return [_asked(folder.name, images[stem], texts[stem]) for stem in sorted(images)]


def _inner(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_dir() else folder


def _images(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes() and not path.name.startswith("."):
            if path.stem in found:
                raise UserError(f"{path} and {found[path.stem].name} have one text of questions: keep one of them")
            found[path.stem] = path
    return found


def _texts(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir() if path.suffix == ".txt" and not path.name.startswith(".")}


def _asked(subtask: str, image: Path, text: Path) -> Asked:
    try:
        lines = [line for line in read_text(text).split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{text} is not UTF-8: convert the file") from None
    if len(lines) != 2:
        raise UserError(f"{text} has {counted(len(lines), 'line')}: give two questions, each on a line of its own")
    shown = picture(str(image), partial(read_image, image))
    first, second = (_parsed(line, f"{text}, line {number}") for number, line in enumerate(lines, 1))
    questions = [VisualQuestion(asked, OPTIONS, shown, name=place) for asked, _, place in (first, second)]
    return Asked(subtask, image, text, (questions[0], questions[1]), (first[1], second[1]))


def _parsed(line: str, place: str) -> tuple[str, str, str]:
    """Return a line's question and its answer, and its place."""
    asked, tab, answer = (part.strip() if part != "\t" else part for part in line.partition("\t"))
    if not (asked and tab) or answer.lower() not in ("yes", "no"):
        raise UserError(f"{place} is not of the form QUESTION<tab>Yes or QUESTION<tab>No: {line!r:.80}")
    return asked, answer.lower(), place
