"""From labelled image files to a data set: the splits it lacks, the checks, the checksum, the note."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from zipeft.api.data import Data, Split
from zipeft.errors import UserError, one_line
from zipeft.formatting import counted
from zipeft.images.folders import ImageListing, LabelledFile
from zipeft.images.reading import BrokenImage, ImageFiles, read_image
from zipeft.sources.package_archive import file_sha256
from zipeft.sources.splits import choose, choose_classes, cut, note_shared

log = logging.getLogger(__name__)

Files = list[LabelledFile]

SPLITS = ("train", "validation", "test")

CONTENT_LIMIT = 2 * 10**9
"""Bytes. Up to this total, file contents are hashed: for the checksum, and to find test images that are in training."""


def image_data(
    name: str,
    listing: ImageListing,
    *,
    split_seed: int = 0,
    skip_broken: bool = False,
    classes: float = 0,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> Data:
    """Return the data set of a listing, with the splits that it lacks cut by class and seeded.

    Without any split: 60% train, 20% validation, 20% test. Without validation: 10% of train. Small classes as in
    ``zipeft.sources.splits.cut``: of one image, train only; of two, train and test; of three, one each. ``classes`` is
    the number or part of the classes to take (``zipeft.sources.splits.choose_classes``), ``limits`` the number of
    images of each split, chosen by class (``zipeft.sources.splits.choose``); 0 stands for all. ``Data.checksum`` covers
    relative path, size, label and split of every file, and its content if all files together are no larger than
    ``CONTENT_LIMIT``.
    Raises ``UserError``: fewer than two classes, a class that train lacks, a split without images, a file that cannot
    be read.
    """
    root, notes = listing.root, list(listing.notes)
    splits = _without_broken(listing.splits, notes) if skip_broken else listing.splits
    names = _ordered({file.label for files in splits.values() for file in files})
    chosen = set(choose_classes(names, classes, split_seed))
    splits = {split: [file for file in files if file.label in chosen] for split, files in splits.items()}
    splits = _completed(splits, split_seed, notes)
    _check(root, splits)
    whole, splits = splits, _limited(splits, limits, split_seed)
    checksum, identities = _fingerprint(root, splits)
    _note_leaks(root, splits, identities, notes)
    taken = [label for label in names if label in chosen]
    part = f"{len(taken)} of " if len(taken) < len(names) else "all "
    part += counted(len(names), "class", "classes") + (f", chosen with seed {split_seed}" if taken != names else "")
    return Data(
        name=name,
        classes=taken,
        train=_split(root, splits["train"], taken),
        validation=_split(root, splits["validation"], taken),
        test=_split(root, splits["test"], taken),
        source=f"folder {root.name}",
        checksum=checksum,
        note="; ".join([part, _counts(whole, splits, split_seed), *notes]),
    )


def _limited(splits: Mapping[str, Files], limits: Mapping[str, int], seed: int) -> dict[str, Files]:
    chosen = {}
    for split, files in splits.items():
        indices = choose([file.label for file in files], limits.get(split, 0), seed)
        chosen[split] = [files[index] for index in indices]
    labels, taken = ({file.label for file in of["train"]} for of in (splits, chosen))
    if taken < labels:
        raise UserError(
            f"train_examples is {limits['train']}, of which none is of class {min(labels - taken)!r}: give more "
            f"(there are {len(labels)} classes)"
        )
    return chosen


def _counts(whole: Mapping[str, Files], taken: Mapping[str, Files], seed: int) -> str:
    parts = {split: f" of {len(whole[split]):,}" if len(taken[split]) < len(whole[split]) else "" for split in SPLITS}
    counts = ", ".join(f"{len(taken[split]):,}{of_all} {split}" for split, of_all in parts.items())
    return f"images: {counts}" + (f", the part chosen by class with seed {seed}" if any(parts.values()) else "")


def _ordered(labels: Iterable[str]) -> list[str]:
    """Sort class ids that are whole numbers by their value, and all others by code point."""
    labels = sorted(labels)
    numeric = all(label.isdecimal() and label.isascii() for label in labels)
    return sorted(labels, key=int) if numeric else labels


def _split(root: Path, files: Files, classes: Sequence[str]) -> Split:
    targets = {label: target for target, label in enumerate(classes)}
    return Split(
        examples=ImageFiles(tuple(file.path for file in files)),
        targets=[targets[file.label] for file in files],
        names=[_relative(root, file.path) for file in files],
    )


def _relative(root: Path, path: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _without_broken(splits: Mapping[str, Files], notes: list[str]) -> dict[str, Files]:
    broken = broken_files(file.path for files in splits.values() for file in files)
    if broken:
        notes.append(f"{counted(len(broken), 'image')} that did not decode left out")
    return {split: [file for file in files if file.path not in broken] for split, files in splits.items()}


def broken_files(paths: Iterable[Path]) -> set[Path]:
    """Decode every file, and return and log those that fail."""
    broken = set()
    for path in _watched(paths, "checking images"):
        try:
            read_image(path)
        except BrokenImage as error:
            broken.add(path)
            log.warning("%s does not decode (%s): left out", error.path, error.reason)
    return broken


def file_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file; none if they are larger together than ``CONTENT_LIMIT``.

    Raises ``UserError`` for a file that cannot be read.
    """
    paths = set(paths)
    try:
        if sum(path.stat().st_size for path in paths) > CONTENT_LIMIT:
            return {}
        return {path: file_sha256(path) for path in _watched(paths, "reading")}
    except OSError as error:
        raise BrokenImage(error.filename, error.strerror or one_line(error)) from None


def _completed(splits: Mapping[str, Files], seed: int, notes: list[str]) -> dict[str, Files]:
    if "all" in splits:
        train, test = _cut(splits["all"], 0.2, seed)
        train, validation = _cut(train, 0.25, seed)
        notes.append(f"split 60/20/20 by class with seed {seed}")
        return {"train": train, "validation": validation, "test": test}
    if "validation" not in splits:
        train, validation = _cut(splits["train"], 0.1, seed)
        notes.append(f"validation cut from the given training images, 10% of each class with seed {seed}")
        return {"train": train, "validation": validation, "test": splits["test"]}
    return dict(splits)


def _cut(files: Files, fraction: float, seed: int) -> tuple[Files, Files]:
    stay, taken = cut([file.label for file in files], fraction, seed)
    return [files[index] for index in stay], [files[index] for index in taken]


def _check(root: Path, splits: Mapping[str, Files]) -> None:
    known = {file.label for file in splits["train"]}
    for split in ("validation", "test"):
        for file in splits[split]:
            if file.label not in known:
                raise UserError(
                    f"{root} has class {file.label!r} in {split} ({_relative(root, file.path)}) but not in train: "
                    "add training images of it, or remove it"
                )
    if len(known) < 2:
        only = f"one class only, {min(known)!r}" if known else "no training images"
        raise UserError(f"{root} has {only}: classification needs two classes or more")
    for split in SPLITS:
        if not splits[split]:
            raise UserError(f"{root} has too few images to spare one for {split}: add images")


def _fingerprint(root: Path, splits: Mapping[str, Files]) -> tuple[str, dict[Path, str]]:
    """Return the checksum of ``image_data``, and what stands for each file's content: its SHA-256, or else its path."""
    paths = {file.path for files in splits.values() for file in files}
    hashes = file_hashes(paths)
    identities = hashes or {path: str(path.resolve()) for path in paths}
    digest = hashlib.sha256()
    for split in SPLITS:
        for file in splits[split]:
            record = [split, file.label, _relative(root, file.path), file.path.stat().st_size]
            record += [hashes[file.path]] if hashes else []
            digest.update(json.dumps(record).encode() + b"\n")
    return digest.hexdigest(), identities


def _note_leaks(root: Path, splits: Mapping[str, Files], identities: Mapping[Path, str], notes: list[str]) -> None:
    """Warn of test images that are also in train or validation. Published data sets have some, so it is no error."""
    seen = {identities[file.path]: file.path for split in ("train", "validation") for file in splits[split]}
    tested = {file.path: identities[file.path] for file in splits["test"]}
    notes += note_shared_images(f"{root}", seen.keys(), list(tested.values()))
    for path in [path for path, identity in tested.items() if identity in seen]:
        log.warning("%s is in the test split and, as %s, in training", path, _relative(root, seen[identities[path]]))


def note_shared_images(source: str, seen: Container[Hashable], test: Sequence[Hashable]) -> list[str]:
    """Return a note on test images that are also in train or validation, as ``note_shared`` does."""
    return note_shared(source, "test image", seen, test, "also in train or validation, byte for byte")


def _watched(paths: Iterable[Path], title: str) -> Iterable[Path]:
    """Iterate with a progress bar on a terminal, if it takes long enough to want one."""
    from tqdm import tqdm

    return tqdm(sorted(paths), desc=title, unit="image", leave=False, delay=2, disable=None)
