"""Finding labelled image files on disk: in class folders, or through JSON split files.

What is passed over, and how names are compared, is as in ``zipeft.sources.folder``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from zipeft import strict_json
from zipeft.errors import UserError
from zipeft.files import read_text
from zipeft.formatting import counted, shortened
from zipeft.images.reading import suffixes
from zipeft.sources.folder import composed, locate, subfolders, unreadable, visible

MOST_KINDS = 5
"""So many suffixes of left-out files a note names."""

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


class LabelledFile(NamedTuple):
    path: Path
    label: str


@dataclass
class ImageListing:
    """The image files of a data set by split ("train", "validation", "test", or "all" where the data have no splits),
    and in ``notes`` what the user should know of how they were read."""

    root: Path
    splits: dict[str, list[LabelledFile]]
    notes: list[str] = field(default_factory=list)


# --- class folders ----------------------------------------------------------------------------------------------------


def image_files(folder: Path, recursive: bool = True, others: Counter[str] | None = None) -> list[Path]:
    """Return the image files in ``folder``, by default at any depth, sorted by relative path.

    An image is a file whose name ends as those of a kind do that the installed Pillow decodes; ``others`` counts the
    suffixes of all other files. Links to folders are followed, except back to a folder that is already being read or
    that holds it.
    """

    def stop(error: OSError) -> None:
        raise unreadable(error)

    found, seen, top = [], set(), folder.resolve()
    for place, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        real = Path(place).resolve()
        if real in seen or (real != top and real in top.parents):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if recursive and visible(name))
        for name in filter(visible, files):
            if name.lower().endswith(suffixes()):
                found.append(Path(place, name))
            elif others is not None:
                others[Path(name).suffix.lower()] += 1
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def left_out(others: Counter[str], place: str) -> list[str]:
    """Return a note on files that are no images; none if there are none."""
    if not others:
        return []
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    kinds = [f"{count:,} {shortened(suffix) or 'without a suffix'}" for suffix, count in ordered]
    more = f" and {len(kinds) - MOST_KINDS} other kinds" if len(kinds) > MOST_KINDS else ""
    log = f"{counted(others.total(), 'file')} in {place} left out"
    return [f"{log}, which are no images that Pillow decodes ({', '.join(kinds[:MOST_KINDS])}{more})"]


def read_class_folders(root: Path) -> ImageListing:
    """Read ``train/<class>/*``, ``val/<class>/*`` and ``test/<class>/*``, or ``<class>/*`` as the one split "all".

    ``val`` may be missing. Raises ``UserError`` if ``train`` or ``test`` is, or if there are no class folders.
    """
    listing, folders = ImageListing(root, {}), _split_folders(root)
    if not folders:
        listing.splits["all"] = _read_classes(root, listing.notes)
        if {"train", "test"} <= {file.label.lower() for file in listing.splits["all"]}:
            raise UserError(
                f"{root} has train and test without class folders: put images into train/<class>/, test/<class>/"
            )
        return listing
    present = " and ".join(folder.name for folder in folders.values())
    if "train" not in folders:
        raise UserError(f"{root} has {present} but no images in train/<class>/: add training images")
    if "test" not in folders:
        raise UserError(
            f"{root} has {present} but no images in test/<class>/: add test images, "
            f"or name {folders['train']} as the data folder, which is then split"
        )
    for split, folder in folders.items():
        listing.splits[split] = _read_classes(folder, listing.notes)
    return listing


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the split folders of ``root``, by split. A folder "train" without folders of images is itself a class."""
    found: dict[str, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        for folder in subfolders(root):
            if folder.name.lower() in names and any(image_files(entry) for entry in subfolders(folder)):
                if split in found:
                    raise UserError(f"{root} has both {found[split].name} and {folder.name}: keep one {split} folder")
                found[split] = folder
    return found


def _read_classes(folder: Path, notes: list[str]) -> list[LabelledFile]:
    classes, others = {}, Counter[str]()
    for entry in subfolders(folder):
        if (name := composed(entry.name)) in classes:
            raise UserError(f"{folder} has two folders {name}, of which one writes its accents apart: join them")
        classes[name] = image_files(entry, others=others)
    loose, empty = len(image_files(folder, recursive=False)), [name for name, files in classes.items() if not files]
    if loose and len(empty) == len(classes):
        raise UserError(f"{folder} holds images but no class folders: put each class into a folder of its own")
    if loose:
        notes.append(f"{counted(loose, 'image')} outside the class folders of {folder.name} left out")
    if empty and len(empty) < len(classes):
        notes.append(
            f"{counted(len(empty), 'folder')} without images in {folder.name} left out ({', '.join(empty[:3])})"
        )
    files = [LabelledFile(path, name) for name, paths in classes.items() for path in paths]
    notes += (unread := left_out(others, folder.name))
    if not files:
        raise UserError("; ".join([f"{folder} holds no images: expected <class>/*.jpg in it", *unread]))
    return files


# --- JSON split files -------------------------------------------------------------------------------------------------


def read_split_files(root: Path, bases: Sequence[str]) -> ImageListing:
    """Read ``train.json``, ``val.json`` (may be missing) and ``test.json``, each {image path: class id}.

    A path is relative to the first of the folders ``bases`` (relative to ``root``) that has the file. A class id is a
    whole number or a string. Raises ``UserError`` that names the file for anything else.
    """
    listing = ImageListing(root, {})
    for split, name in (("train", "train.json"), ("validation", "val.json"), ("test", "test.json")):
        if split == "validation" and not (root / name).exists():
            continue
        entries = _read_json(root / name)
        listing.splits[split] = [
            LabelledFile(_locate(root, name, path, bases), _class_id(root / name, path, label))
            for path, label in sorted(entries.items())
        ]
    return listing


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        content = strict_json.parse(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: put {path.name} beside the other split files") from None
    except OSError as error:
        raise unreadable(error) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): repair it") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not a JSON object of image paths and class ids, or is empty: repair it")
    return content


def _locate(root: Path, split_file: str, path: str, bases: Sequence[str]) -> Path:
    for base in bases:
        if (place := locate(root / base, path)) is not None:
            return place
    raise UserError(
        f"{root / split_file} names {shortened(path)}, which is not in {root} nor in its folders {', '.join(bases)}: "
        "add it"
    )


def _class_id(split_file: Path, path: str, label: object) -> str:
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        raise UserError(
            f"{split_file} gives {shortened(path)} the class {shortened(repr(label))}: give a whole number or a name"
        )
    return composed(str(label))


# --- messages ---------------------------------------------------------------------------------------------------------
