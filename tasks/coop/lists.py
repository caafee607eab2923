"""Lists of the images that a seed's few shots take, where a folder brings them: otherwise the seed draws its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import join
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.formatting import counted, shortened
from zipeft.tasks.coop.files import SPLITS, ListedImage, NamedImages, plain_path, read_json
from zipeft.text.tables import read_table

FOLDER = "split_fewshot"
JSON = re.compile(r"shot_(\d+)-seed_(\d+)\.json")
TSV = re.compile(r"fewshot_(train|val)_(\d+)shot_seed(\d+)\.tsv")


class ShotList(NamedTuple):
    """The images of one split that a seed takes, as ``ListedImage.file``, and the file that lists them."""

    listed_in: Path
    files: frozenset[str]


Lists = Mapping[tuple[str, int, int], ShotList]
"""By split ("train" or "validation"), number of shots and seed."""


def read_lists(root: Path, images: NamedImages, bases: Sequence[str]) -> Lists:
    """Return all lists of a data set's folder.

    They are ``split_fewshot/shot_16-seed_1.json`` ({"train" and, perhaps, "val": [path, ...]}) or, in the folder itself
    or there too, ``fewshot_train_16shot_seed1.tsv`` and ``fewshot_val_...`` with the columns path and label. Paths are
    as in the split file, or relative to the data set's folder. CoOp's own lists are pickles, which run code when they
    are read: ``images.notes`` says that they were not. Raises ``UserError`` for an image that is listed twice, is not
    of the split, has another label there, or is missing.
    """
    paths = sorted([*root.glob("fewshot_*.tsv"), *(root / FOLDER).glob("*")])
    named = _by_path(images, bases) if paths else {}
    lists: dict[tuple[str, int, int], ShotList] = {}
    for path in paths:
        for split, shots, seed, listed in _read(path):
            if (before := lists.get((split, shots, seed))) is not None:
                raise UserError(f"{path} and {before.listed_in} are lists of the same shots: keep one")
            if split not in named:
                raise UserError(f"{path} lists {split} images, of which {images.listed_in} has none: leave them out")
            files = _files(path, listed, named[split], f"{images.listed_in} does not have in {split}")
            lists[split, shots, seed] = ShotList(path, files)
    unread = [path for path in sorted((root / FOLDER).glob("*.pkl")) if not path.with_suffix(".json").exists()]
    if unread:
        images.notes.append(
            f"{counted(len(unread), 'pickle')} in {FOLDER} not read, as a pickle can run code: as JSON "
            f'({unread[0].stem}.json: {{"train": [path, ...], "val": [...]}}) they would be'
        )
    return lists


def _read(path: Path) -> list[tuple[str, int, int, dict[str, str | None]]]:
    """Return the lists in a file: split, shots, seed, and the paths with their labels, where it gives those."""
    if match := TSV.fullmatch(path.name):
        table = read_table(path, (("path", "impath"), ("label",)))
        split = "train" if match[1] == "train" else "validation"
        return [(split, int(match[2]), int(match[3]), _once(path, [row for _, row in table.rows]))]
    if not (match := JSON.fullmatch(path.name)):
        return []
    content: Any = read_json(path)
    if not isinstance(content, Mapping) or not content.get("train"):
        raise UserError(f"{path} has no list 'train': give the images of the few shots, and perhaps 'val'")
    found = []
    for split in ("train", "validation"):
        if paths := content.get(SPLITS[split]):
            if not isinstance(paths, list) or not all(isinstance(each, str) for each in paths):
                raise UserError(f"{path}: {SPLITS[split]!r} is no list of paths: give the paths of the images alone")
            found.append((split, int(match[1]), int(match[2]), _once(path, [(each, None) for each in paths])))
    return found


def _once(path: Path, rows: list[tuple[str, str | None]]) -> dict[str, str | None]:
    paths = dict(rows)
    if len(paths) < len(rows):
        twice = next(place for place in paths if sum(place == other for other, _ in rows) > 1)
        raise UserError(f"{path} lists {shortened(twice)} twice: keep one")
    return paths


def _by_path(images: NamedImages, bases: Sequence[str]) -> dict[str, dict[str, ListedImage]]:
    """Return the images of each split by all the paths that they may go by."""
    return {
        split: {plain_path(join(base, plain_path(entry.path))): entry for base in (".", *bases) for entry in entries}
        for split, entries in images.splits.items()
    }


def _files(
    path: Path, listed: Mapping[str, str | None], named: Mapping[str, ListedImage], lacking: str
) -> frozenset[str]:
    """Return the files of what is listed; ``lacking`` says where an image that is not ``named`` is not."""
    found = set()
    for place, label in listed.items():
        if (entry := named.get(plain_path(place))) is None:
            raise UserError(f"{path} lists {shortened(place)}, which {lacking}: correct it")
        if label is not None and label != str(entry.label):
            given = f"{path} gives {shortened(place)} the label {shortened(label)}"
            raise UserError(f"{given}, the data set gives it {entry.label}: correct it")
        if not entry.file:
            raise UserError(f"{path} lists {shortened(place)}, which is not there: add it")
        found.add(entry.file)
    return frozenset(found)
