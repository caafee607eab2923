"""Reading a data set whose classes have names: CoOp's split files, or the lists and class folders of the sources."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

from zipeft import strict_json
from zipeft.errors import UserError
from zipeft.files import read_text
from zipeft.formatting import counted, shortened
from zipeft.images.folders import image_files, left_out
from zipeft.sources.folder import composed, locate, subfolders, unreadable

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Our names of the splits, and those that files have."""

CLASS_NAMES = "classnames.txt"
VARIANTS, VARIANT_LIST = "variants.txt", "images_variant_{}.txt"


class ListedImage(NamedTuple):
    """An image: its path, as a list gives it; the index of its class; and where the file is, relative to the folder of
    the data set, "" if it is not there."""

    path: str
    label: int
    file: str = ""


ListedImages = list[ListedImage]


@dataclass
class NamedImages:
    """Which images a data set has, by split, in the order of the file. ``listed_in`` is the file that says so."""

    listed_in: Path
    classes: list[str]
    splits: dict[str, ListedImages]
    notes: list[str] = field(default_factory=list)


def read_set(root: Path, bases: Sequence[str]) -> NamedImages:
    """Read a data set from its folder, by whichever of these is there; an image is in the first of ``bases``, folders
    relative to ``root``, that has it, or nowhere.

    - ``split_zhou_*.json``: {"train", "val" and "test": [[path, label, class name], ...]};
    - ``images_variant_train.txt``, ``_val`` and ``_test``, with ``variants.txt``: FGVC-Aircraft's own lists;
    - ``classnames.txt`` (a class folder and its name a line), and class folders in ``train`` and ``val`` (which is the
      test data), perhaps in ``images``: ImageNet.

    Raises ``UserError`` that names the file for what is missing or contradictory.
    """
    if (path := _split_file(root)) is not None:
        found = _read_split_file(path)
    elif (root / VARIANT_LIST.format("train")).exists():
        found = _read_variants(root)
    elif (root / CLASS_NAMES).exists():
        found = _read_class_folders(root)
    else:
        raise UserError(f"{root} has no split_zhou_*.json: add CoOp's split file of this set")
    _check(found)
    return _located(found, root, bases)


def read_test(root: Path, bases: Sequence[str]) -> NamedImages:
    """Read a data set that is tested on alone: the "test" split of a split file, or class folders anywhere in ``root``
    with ``classnames.txt``. Numbered folders are those of the classes in the order of their folders' names."""
    if (path := _split_file(root)) is not None:
        found = _read_split_file(path)
        return _located(NamedImages(path, found.classes, {"test": found.splits["test"]}), root, bases)
    folders, names = _class_names(root)
    notes: list[str] = []
    places = [place for place in (root, *subfolders(root)) if _labels(place, folders)]
    if not places:
        raise UserError(f"{root} has no class folders that {CLASS_NAMES} names: add them")
    return NamedImages(root / CLASS_NAMES, names, {"test": _entries(root, places[0], folders, notes)}, notes)


def _located(found: NamedImages, root: Path, bases: Sequence[str]) -> NamedImages:
    for split, entries in found.splits.items():
        found.splits[split] = [entry._replace(file=entry.file or _file(entry.path, root, bases)) for entry in entries]
    return found


def _file(path: str, root: Path, bases: Sequence[str]) -> str:
    place = next(filter(None, (locate(root / base, path) for base in bases)), None)
    if place is None:
        return ""
    return (place.relative_to(root) if place.is_relative_to(root) else place).as_posix()


def plain_path(path: str) -> str:
    """Return a path in the form in which paths of lists are compared, whichever system wrote them."""
    return normpath(composed(path.replace("\\", "/")))


# --- CoOp's split files -----------------------------------------------------------------------------------------------


def _split_file(root: Path) -> Path | None:
    found = sorted(path for path in root.glob("split_zhou_*.json") if path.is_file())
    if len(found) > 1:
        raise UserError(f"{root} has both {found[0].name} and {found[1].name}: keep one")
    return found[0] if found else None


def _read_split_file(path: Path) -> NamedImages:
    content = read_json(path)
    names: dict[int, str] = {}
    splits: dict[str, ListedImages] = {}
    for split, key in SPLITS.items():
        items = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(items, list) or not items:
            raise UserError(f"{path} has no list {key!r}, or an empty one: it takes train, val and test")
        splits[split] = []
        for number, item in enumerate(items, 1):
            place, label, name = _item(item, f"{path}, {key} {number}")
            if names.setdefault(label, name) != name:
                raise UserError(f"{path} gives label {label} two names, {names[label]!r} and {name!r}: repair it")
            splits[split].append(ListedImage(place, label))
    if missing := set(range(len(names))) - set(names):
        raise UserError(f"{path} has {len(names)} labels, but none is {min(missing)}: number the classes from 0")
    classes = [names[label] for label in range(len(names))]
    if twice := _twice(classes):
        labels = " and ".join(str(label) for label, name in enumerate(classes) if name == twice[0])
        raise UserError(f"{path} gives the labels {labels} one name, {twice[0]!r}: names must tell the classes apart")
    return NamedImages(path, classes, splits)


def _item(item: Any, place: str) -> tuple[str, int, str]:
    match item:
        case [str(path), int(label), str(name)] if path and not isinstance(label, bool) and label >= 0:
            if plain_name := as_name(name):
                return path, label, plain_name
    raise UserError(f"{place} is {json.dumps(item)[:80]}: give [path, label from 0, class name]")


def as_name(name: str) -> str:
    """Return a class's name as a text has it: with spaces for underscores."""
    return composed(" ".join(name.replace("_", " ").split()))


def read_json(path: Path) -> Any:
    try:
        return strict_json.parse(read_text(path))
    except OSError as error:
        raise unreadable(error) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): repair it") from None


# --- other layouts ----------------------------------------------------------------------------------------------------


def _read_variants(root: Path) -> NamedImages:
    """Read FGVC-Aircraft's own lists: "<number of the image> <variant>" a line."""
    classes = [name for _, name in _lines(root / VARIANTS)]
    splits: dict[str, ListedImages] = {}
    for split, key in SPLITS.items():
        path, entries = root / VARIANT_LIST.format(key), []
        for number, line in _lines(path):
            image, _, variant = line.partition(" ")
            if variant not in classes:
                raise UserError(f"{path}, line {number} names no variant of {VARIANTS}, but {variant!r}: repair it")
            entries.append(ListedImage(f"{image}.jpg", classes.index(variant)))
        splits[split] = entries
    if twice := _twice(classes):
        raise UserError(f"{root / VARIANTS} has {twice[0]!r} twice: keep one")
    return NamedImages(root / VARIANT_LIST.format("train"), [as_name(name) for name in classes], splits)


def _read_class_folders(root: Path) -> NamedImages:
    folders, names = _class_names(root)
    splits: dict[str, ListedImages] = {}
    notes: list[str] = []
    for split, key in (("train", "train"), ("test", "val")):
        places = [place for place in (root / "images" / key, root / key) if place.is_dir()]
        if not places:
            raise UserError(f"{root} has neither images/{key} nor {key}: put its class folders there")
        splits[split] = _entries(root, places[0], folders, notes)
    notes.append("test: the published validation data, as in CoOp")
    if twice := _twice(names):  # CLIP's own names for ImageNet have two pairs
        log = f"{counted(len(twice), 'name')} of {CLASS_NAMES} that several classes have ({', '.join(twice[:3])})"
        notes.append(f"{log}: all but the first of these are never recognised by their texts")
    return NamedImages(root / CLASS_NAMES, names, splits, notes)


def _class_names(root: Path) -> tuple[list[str], list[str]]:
    """Return the folders of the classes, sorted, and their names, from ``classnames.txt``."""
    path, names = root / CLASS_NAMES, {}
    for number, line in _lines(path):
        folder, _, name = line.partition(" ")
        if not as_name(name):
            raise UserError(f"{path}, line {number} is {line[:80]!r}: give a class folder, a space and a name")
        if folder in names:
            raise UserError(f"{path}, line {number} names the folder {folder} again: keep one line")
        names[folder] = as_name(name)
    return sorted(names), [names[folder] for folder in sorted(names)]


def _labels(place: Path, folders: Sequence[str]) -> dict[Path, int]:
    """Return the class folders in a place and their labels; they are named as ``folders`` or numbered from 0."""
    known = {folder: label for label, folder in enumerate(folders)}
    numbers = {str(label): label for label in range(len(folders))}
    there = subfolders(place)
    return {folder: label for folder in there if (label := {**numbers, **known}.get(composed(folder.name))) is not None}


def _entries(root: Path, place: Path, folders: Sequence[str], notes: list[str]) -> ListedImages:
    labels = _labels(place, folders)
    if unknown := [folder.name for folder in subfolders(place) if folder not in labels]:
        raise UserError(f"{place} has a class folder {unknown[0]} that {CLASS_NAMES} does not name: add its name there")
    others = Counter[str]()
    entries = [
        ListedImage(file, label, file)
        for folder, label in sorted(labels.items(), key=lambda item: item[1])
        for file in (path.relative_to(root).as_posix() for path in image_files(folder, others=others))
    ]
    notes += left_out(others, place.relative_to(root).as_posix())
    return entries


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text that are not blank, and their numbers."""
    try:
        lines = composed(read_text(path)).splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: put it there") from None
    except OSError as error:
        raise unreadable(error) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8: convert the file") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


# --- checks -----------------------------------------------------------------------------------------------------------


def _check(found: NamedImages) -> None:
    """Raise ``UserError`` for a class without training images, and for an image that is named twice."""
    learnt = {entry.label for entry in found.splits["train"]}
    for label, name in enumerate(found.classes):
        if label not in learnt:
            raise UserError(f"{found.listed_in} has no training image of class {name!r}: add some, or remove the class")
    seen: dict[str, str] = {}
    for split, entries in found.splits.items():
        for entry in entries:
            if (before := seen.setdefault(plain_path(entry.path), split)) != split:
                raise UserError(
                    f"{found.listed_in} has {shortened(entry.path)} both in {before} and in {split}: keep one"
                )
        if twice := _twice([plain_path(entry.path) for entry in entries]):
            raise UserError(f"{found.listed_in} has {shortened(twice[0])} twice in {split}: keep one")


def _twice(values: Sequence[str]) -> list[str]:
    """Return the values that are there more than once."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    for value in values:
        if value in seen:
            found[value] = None
        seen.add(value)
    return list(found)
