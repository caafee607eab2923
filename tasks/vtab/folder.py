"""A set of VTAB-1k in the layout in circulation: lists of images and labels, and the images beside them.

``train800.txt``, ``val200.txt`` and ``test.txt`` have a line "path label" for each image, with the path relative to
the set's folder. ``train800val200.txt``, if it is there, lists the first two together, under paths of its own where
the images were written twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.files import read_text
from zipeft.formatting import counted, shortened
from zipeft.images.assembly import file_hashes, note_shared_images
from zipeft.images.reading import ImageFiles
from zipeft.sources.folder import is_file, locate, unreadable
from zipeft.sources.package_archive import file_sha256
from zipeft.tasks.vtab.data import Sizes, build_data, check_test, limited, numbered, picked, without_broken
from zipeft.tasks.vtab.sets import SETS, TRAIN, VALIDATION

FILES = {"train": "train800.txt", "validation": "val200.txt", "test": "test.txt"}
LINES = {"train": TRAIN, "validation": VALIDATION}
UNION = "train800val200.txt"

DIGITS = 9
"""How long a label may be: Python refuses to read numbers of thousands of digits."""


class ListedImage(NamedTuple):
    """A line of a list: its number, its path as it is written, and the label."""

    line: int
    path: str
    label: int


def is_layout(root: Path) -> bool:
    """Return whether a folder has one of the lists. Raises ``UserError`` for one that may not be entered."""
    return any(is_file(root / name) for name in FILES.values())


def load(name: str, root: Path, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set in a folder, exactly as it is listed; of the test list, as many as are to be taken.

    Raises ``UserError``, which names the list and the line, for whatever does not fit: a list that is missing, empty or
    of a wrong length, a line that is none, a label that the set does not have, a file that is missing or listed twice
    (in two lists also by another path: as a link), and a ``train800val200.txt`` that is not the union of the two lists.
    """
    classes, notes = SETS[name].classes, ["its own 800 and 200 images"]
    lists = {split: read_list(root, file, classes) for split, file in FILES.items()}
    for split, lines in LINES.items():
        if (found := len(lists[split])) != lines:
            raise UserError(f"{root / FILES[split]} has {counted(found, 'image')}, not {lines}: get it again")
    _check_apart(root, lists)
    if (root / UNION).exists():
        _check_union(root, lists, read_list(root, UNION, classes))
    check_test(name, len(lists["test"]), f"{root / FILES['test']}", notes)
    content, identities = _identities(root, lists)
    seen = {identities[entry.path] for split in LINES for entry in lists[split]}
    notes += note_shared_images(f"{root}", seen, [identities[entry.path] for entry in lists["test"]])
    splits = {split: _split(root, entries) for split, entries in lists.items()}
    if skip_broken:
        splits = without_broken(splits, notes)
    splits["test"] = picked(splits["test"], limited(range(len(splits["test"])), sizes))
    return build_data(name, numbered(classes), splits, source=f"folder {root.name}", content=content, notes=notes)


def read_list(root: Path, file: str, classes: int) -> list[ListedImage]:
    """Return the lines of a list. Raises ``UserError`` as ``load`` does."""
    path = root / file
    seen: dict[str, ListedImage] = {}
    for line, text in enumerate(_lines(path), 1):
        if not text.strip():
            continue
        where = f"{path}, line {line}"
        image, label = _parsed(text, classes, where)
        if (place := locate(root, image)) is None:
            raise UserError(f"{where} names {shortened(image)}, which is not in {root}: add the image")
        image = place.relative_to(root).as_posix()
        if image in seen:
            raise UserError(f"{where} lists {image} again, after line {seen[image].line}: remove one")
        seen[image] = ListedImage(line, image, label)
    if not seen:
        raise UserError(f"{path} lists no images: get it again")
    return list(seen.values())


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: add it, with a line 'path label' for each image") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8: convert it") from None
    except OSError as error:
        raise unreadable(error) from None


def _parsed(text: str, classes: int, where: str) -> tuple[str, int]:
    image, label, *_ = [*text.rsplit(maxsplit=1), ""]
    if not label:
        raise UserError(f"{where} is {shortened(text.strip())!r}: give a path and a label")
    if not (label.isdecimal() and label.isascii() and len(label) <= DIGITS and int(label) < classes):
        raise UserError(f"{where} has the label {label[:20]!r}: give a whole number from 0 to {classes - 1}")
    image = PurePosixPath(image.strip()).as_posix()  # "./a" and "a" are one
    if PureWindowsPath(image).anchor or ".." in PureWindowsPath(image).parts:
        raise UserError(f"{where} names {shortened(image)}, which is not in the set's folder: give a path in it")
    return image, int(label)


def _check_apart(root: Path, lists: Mapping[str, list[ListedImage]]) -> None:
    """Compare files, not paths: a link is the file that it leads to."""
    seen: dict[tuple[int, int], tuple[str, ListedImage]] = {}
    for split, entries in lists.items():
        for entry in entries:
            status = (root / entry.path).stat()
            other, first = seen.setdefault((status.st_dev, status.st_ino), (split, entry))
            if other != split:
                where = f"{root / FILES[split]}, line {entry.line}"
                same = "" if first.path == entry.path else f", which is the same file as {first.path}"
                raise UserError(f"{where} lists {entry.path}{same}, as {FILES[other]} does: keep it in one of them")


def _check_union(root: Path, lists: Mapping[str, list[ListedImage]], union: list[ListedImage]) -> None:
    """Compare by content: whoever exports the lists from VTAB's own code writes these images a second time."""
    missing = Counter(_pair(root, entry) for split in LINES for entry in lists[split])
    for entry in union:
        if not missing[_pair(root, entry)]:
            raise UserError(
                f"{root / UNION}, line {entry.line} lists {entry.path} with the label {entry.label}, which is not in "
                f"{FILES['train']} nor {FILES['validation']}: get the lists again, or remove {UNION}"
            )
        missing[_pair(root, entry)] -= 1
    if left := missing.total():
        raise UserError(
            f"{root / UNION} lacks {counted(left, 'image')} of {FILES['train']} and {FILES['validation']}: "
            f"get the lists again, or remove {UNION}"
        )


def _pair(root: Path, entry: ListedImage) -> tuple[str, int]:
    return _sha256(root / entry.path), entry.label


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise unreadable(error) from None


def _identities(root: Path, lists: Mapping[str, list[ListedImage]]) -> tuple[list[str], dict[str, str]]:
    """Return what the checksum covers of each file, and what stands for each image: its SHA-256, or, where all are
    too large for that, its path (then the checksum covers its size)."""
    paths = [entry.path for entries in lists.values() for entry in entries]
    hashes = file_hashes(root / path for path in paths)
    if not hashes:
        return [str((root / path).stat().st_size) for path in paths], {path: path for path in paths}
    digests = [hashes[root / path] for path in paths]
    return digests, dict(zip(paths, digests, strict=True))


def _split(root: Path, entries: list[ListedImage]) -> Split:
    files = ImageFiles(tuple(root / entry.path for entry in entries))
    return Split(files, [entry.label for entry in entries], [entry.path for entry in entries])
