"""Build a full data set from a folder of images with named classes; few shots are drawn from it later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from zipeft.api.data import Split
from zipeft.errors import UserError
from zipeft.formatting import counted, shortened
from zipeft.images.assembly import broken_files, file_hashes, image_data
from zipeft.images.folders import ImageListing, LabelledFile
from zipeft.images.reading import ImageFiles
from zipeft.sources.splits import cut
from zipeft.tasks.coop.files import ListedImages, NamedImages, read_set, read_test
from zipeft.tasks.coop.lists import Lists, read_lists
from zipeft.tasks.coop.sets import SETS, CoOpSet
from zipeft.tasks.coop.shots import Pool, digest

BASES = ("images", ".")
"""Folders that a split file's paths may be relative to, in a folder that is none of the published sets."""

VALIDATION = 0.1
"""The part of each class's training images that is cut for validation where a data set has none."""


def load_pool(name: str, root: Path, shifted: Mapping[str, Path], split_seed: int, skip_broken: bool) -> Pool:
    """Return a published data set from its folder, and the test data of the ``shifted`` folders, by their names.

    ``split_seed`` seeds the validation data that ImageNet lacks. Raises ``UserError`` for whatever is missing, broken
    or contradictory in the folders.
    """
    published = SETS[name]
    images = read_set(root, published.bases)
    if published.sizes:
        _note_sizes(images, published)
    lists = read_lists(root, images, published.bases)
    _complete(images, lists, split_seed)
    _leave_out_missing(images, root, lists)
    others = {kind: _shifted(kind, folder, images, skip_broken) for kind, folder in shifted.items()}
    order = {
        split: list(dict.fromkeys(entry.label for entry in images.splits[split])) for split in ("train", "validation")
    }
    data = image_data(name, _listing(root, images), skip_broken=skip_broken)
    data = replace(
        data,
        classes=images.classes,
        # The order decides what seeds draw. Before it did, it was in no checksum: results of then are told apart.
        checksum=digest(data.checksum, images.classes, order, *(checksum for _, checksum in others.values())),
        shifted={kind: split for kind, (split, _) in others.items()},
    )
    return Pool(data, lists, order=order)


def _note_sizes(images: NamedImages, published: CoOpSet) -> None:
    there = {"classes": len(images.classes), **{split: len(own) for split, own in images.splits.items()}}
    counts = zip(there.items(), (published.classes, *published.sizes), strict=True)
    if others := [f"{count:,} {what} where {size:,} are published" for (what, count), size in counts if count != size]:
        images.notes.append(f"{images.listed_in.name} has {' and '.join(others)}")


def _complete(images: NamedImages, lists: Lists, seed: int) -> None:
    """Cut validation data from the training data if there are none, but for what lists train on."""
    if "validation" in images.splits:
        return
    train, listed = images.splits["train"], _listed_files(lists, "train")
    free = [entry for entry in train if entry.file not in listed]
    _, taken = cut([entry.label for entry in free], VALIDATION, seed)
    images.splits["validation"] = [free[index] for index in taken]
    chosen = set(images.splits["validation"])
    images.splits["train"] = [entry for entry in train if entry not in chosen]
    images.notes.append(f"validation cut from the training images, {VALIDATION:.0%} of each class with seed {seed}")


def _leave_out_missing(images: NamedImages, root: Path, lists: Lists) -> None:
    """Take only what lists name where images are missing. Raises ``UserError`` if there are no lists for them."""
    for split, entries in images.splits.items():
        missing = [entry for entry in entries if not entry.file]
        if not missing:
            continue
        listed = _listed_files(lists, split)
        if not listed:
            raise UserError(
                f"{images.listed_in} names {shortened(missing[0].path)}, which is not in {root} ({len(missing):,} of "
                f"{len(entries):,} {split} images are missing): add the images"
            )
        images.splits[split] = [entry for entry in entries if entry.file in listed]
        images.notes.append(
            f"{len(missing):,} of {len(entries):,} {split} images are not there: shots are drawn from the "
            f"{len(images.splits[split]):,} that lists name"
        )


def _listed_files(lists: Lists, split: str) -> set[str]:
    return {file for (of, _, _), own in lists.items() if of == split for file in own.files}


def _listing(root: Path, images: NamedImages) -> ImageListing:
    splits = {
        split: [LabelledFile(root / entry.file, str(entry.label)) for entry in _by_class(entries)]
        for split, entries in images.splits.items()
    }
    return ImageListing(root, splits, images.notes)


def _by_class(entries: ListedImages) -> ListedImages:
    return sorted(entries, key=lambda entry: entry.label)


# --- other domains ----------------------------------------------------------------------------------------------------


def _shifted(kind: str, root: Path, images: NamedImages, skip_broken: bool) -> tuple[Split, str]:
    """Return the test data of another domain, and a checksum of them. Raises ``UserError`` for other classes."""
    other = read_test(root, BASES)
    images.notes += other.notes
    _leave_out_missing(other, root, {})
    entries = _by_class(other.splits["test"])
    if other.classes != images.classes:
        ours, theirs = next(pair for pair in zip_longest(images.classes, other.classes) if pair[0] != pair[1])
        raise UserError(
            f"{other.listed_in} has other classes than {images.listed_in} (first {theirs!r} where that has {ours!r}): "
            "shifted data have the same classes, in the same order"
        )
    if (there := len({entry.label for entry in entries})) < len(images.classes):
        raise UserError(
            f"{root} has images of {there} of the {len(images.classes)} classes alone: "
            "shifted data are of all classes; leave it out"
        )
    if skip_broken:
        entries = _without_broken(root, entries, images.notes)
    paths = tuple(root / entry.file for entry in entries)
    names = [f"{kind}/{entry.file}" for entry in entries]
    targets = [entry.label for entry in entries]
    return Split(ImageFiles(paths), targets, names), digest(names, targets, _contents(paths))


def _without_broken(root: Path, entries: ListedImages, notes: list[str]) -> ListedImages:
    broken = broken_files(root / entry.file for entry in entries)
    kept = [entry for entry in entries if root / entry.file not in broken]
    if len(kept) < len(entries):
        notes.append(f"{counted(len(entries) - len(kept), 'image')} of {root.name} that did not decode left out")
    return kept


def _contents(paths: Sequence[Path]) -> list[str | int]:
    """Return what stands for the content of each file: its SHA-256 or, where all are too large for that, its size."""
    hashes = file_hashes(paths)
    return [hashes[path] if hashes else path.stat().st_size for path in paths]
