"""easy-vqa 1.0 (Victor Zhou, 2019): whether, which and what colour is the one shape in a picture, in official splits.

The options follow from the kind of the question, which the right answer tells: yes or no, the three shapes, or the
eight colours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

from zipeft.api.data import Data, Picture
from zipeft.errors import UserError, one_line
from zipeft.images.reading import decoded
from zipeft.objectives.options import Answer
from zipeft.sources import package_archive
from zipeft.sources.splits import cut
from zipeft.vqa.assembly import Asked, vqa_data
from zipeft.vqa.question import VisualQuestion

ARCHIVE = package_archive.PackageArchive(
    name="easy-vqa",
    version="1.0",
    kind="wheel",
    sha256="fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    size=3_215_672,
    licence="MIT",
)
FOLDER = "easy_vqa/data"

KINDS = {
    ("yes/no",): ("yes", "no"),
    ("open", "shape"): ("circle", "rectangle", "triangle"),
    ("open", "colour"): ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow"),
}
"""The kinds of questions, as groups of ``Answer``, and their options, always in this order."""

VALIDATION = 0.1
"""The part of the training images whose questions are validation data."""


def load(limits: Mapping[str, int], seed: int) -> Data:
    """Return the data set. Of an image, all questions are in the same split."""
    files = package_archive.contents(ARCHIVE, f"{FOLDER}/t*/*")
    train, test = (read_questions(files, split) for split in ("train", "test"))
    held_out = validation_images(train, seed)
    splits = {
        "train": [each for each in train if _image_of(each) not in held_out],
        "validation": [each for each in train if _image_of(each) in held_out],
        "test": test,
    }
    return vqa_data(
        "easy-vqa",
        splits,
        limits=limits,
        seed=seed,
        source=ARCHIVE.label,
        content=ARCHIVE.sha256,
        notes=[
            f"published set with its own test split, licence {ARCHIVE.licence}",
            f"validation cut from the training images, {100 * VALIDATION:.0f}% with seed {seed}",
        ],
    )


def validation_images(train: list[Asked], seed: int) -> set[str]:
    """Return which images of the training data are validation data."""
    images = sorted({_image_of(each) for each in train})
    return {images[index] for index in cut([""] * len(images), VALIDATION, seed)[1]}


def read_questions(files: Mapping[str, bytes], split: str) -> list[Asked]:
    """Return the questions of a split, in the order of their file, with their pictures. Raises ``UserError``."""
    path, seen = f"{FOLDER}/{split}/questions.json", dict[int, int]()
    found = []
    try:
        for text, right, image in json.loads(files[path]):
            seen[image] = seen.get(image, 0) + 1
            question = VisualQuestion(
                text, options_of(right), _picture(files, split, image), name=f"{split}/{image}:{seen[image]}"
            )
            found.append((question, answer_of(text, right)))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{ARCHIVE.label}: {path} is not as expected ({one_line(error)})") from error
    return found


def options_of(right: str) -> tuple[str, ...]:
    """Return the options among which an answer is. Raises ``ValueError`` where it is in none."""
    return KINDS[_kind(right)]


def answer_of(text: str, right: str) -> Answer:
    """Return the target of a question that has this right answer."""
    options = options_of(right)
    return Answer(options.index(right), options, groups=_kind(right), asked=text)


def _kind(right: str) -> tuple[str, ...]:
    for groups, options in KINDS.items():
        if right in options:
            return groups
    raise ValueError(f"an answer is {right!r}")


def _picture(files: Mapping[str, bytes], split: str, image: int) -> Picture:
    content = files[f"{FOLDER}/{split}/images/{image}.png"]
    name = f"easy-vqa {split}/{image}"
    return Picture(name, partial(decoded, content, name))


def _image_of(asked: Asked) -> str:
    picture = asked[0].picture
    assert picture is not None  # every question is on one
    return picture.name
