"""A set of VTAB in files of many images: tar shards as CLIP benchmark has them on the hub, or parquet.

Shards lie in folders ``train`` and ``test``, or their names begin with these words. In a tar, an image and a file
"<key>.cls" with its label have the same key. Images are read where they are: nothing is extracted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from zipeft.api.data import Data
from zipeft.errors import UserError
from zipeft.images.assembly import note_shared_images
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.sources.package_archive import file_sha256
from zipeft.tasks.vtab.data import (
    NOT_VTABS,
    Sizes,
    build_data,
    check_test,
    first_thousand,
    limited,
    numbered,
    without_broken,
)
from zipeft.tasks.vtab.dsprites import NPZ
from zipeft.tasks.vtab.sets import SETS
from zipeft.tasks.vtab.shard_files import SPLITS, find_shards
from zipeft.tasks.vtab.shard_images import Item, encoded_images, read_items, split_of


def load(name: str, root: Path, source: str, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set: 800 and 200 of its training images, drawn by the seed, and its test images.

    Raises ``UserError``, which names the shard, for what cannot be read, and for a label that the set does not have.
    """
    shards, notes = find_shards(root), [NOT_VTABS, f"train and validation drawn with seed {sizes.split_seed}"]
    items = {split: [item for path in paths for item in read_items(path, name)] for split, paths in shards.items()}
    train, validation, _ = first_thousand(len(items["train"]), sizes.split_seed, f"{root}")
    test = limited(range(len(items["test"])), sizes)
    check_test(name, len(items["test"]), f"{root}", notes)
    _check_raw(name, root, items)
    chosen = {
        "train": [items["train"][index] for index in train],
        "validation": [items["train"][index] for index in validation],
        "test": [items["test"][index] for index in test],
    }
    splits, hashes = {}, {}
    for split, taken in chosen.items():
        contents = encoded_images(taken)
        splits[split] = split_of(root, taken, contents)
        hashes[split] = [hashlib.sha256(contents[index]).digest() for index in range(len(taken))]
    notes += note_shared_images(f"{root}", {*hashes["train"], *hashes["validation"]}, hashes["test"])
    if skip_broken:
        splits = without_broken(splits, notes)
    content = [[path.relative_to(root).as_posix(), file_sha256(path)] for paths in shards.values() for path in paths]
    return build_data(name, numbered(SETS[name].classes), splits, source=source, content=content, notes=notes)


def hub_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a set in the hub's local cache, to which what it lacks is downloaded, and its source.

    Raises ``UserError`` if the hub does not give it.
    """
    folder = download(name)
    return folder, f"hub {SETS[name].hub}@{folder.name[:7]}"


def download(name: str, folder: Path | None = None) -> Path:
    """Download the shards of a set that are not there yet, to ``folder`` or the hub's cache. Raises ``UserError``."""
    repository = Repository(SETS[name].hub, SETS[name].revision, "dataset")
    if not repository.name:
        raise UserError(f"{name} is not on the hub as VTAB splits it: {how_to_get(name)}")
    patterns = [f"{split}/*" for split in SPLITS]
    try:
        if folder:
            repository.ask()
            path = repository.download(patterns, folder)
        else:
            path = repository.snapshot(patterns, _is_whole)
        if not find_shards(path):
            raise HubUnavailable("it has no such files")
    except HubUnavailable as reason:
        raise UserError(
            f"the hub did not give {repository.name} ({reason}): connect, or {how_to_get(name)}"
        ) from reason
    return path


def _is_whole(copy: Path) -> bool:
    try:
        return bool(find_shards(copy))
    except UserError:  # an earlier download was cut off
        return False


def _check_raw(name: str, root: Path, items: Mapping[str, Sequence[Item]]) -> None:
    """Refuse labels that are classes already where those of a factor's values are expected: they would be binned twice.

    Values go up to 31 or 39, and 16 classes to 15: then all of the classes made of them are below 8.
    """
    half = SETS[name].classes // 2
    if SETS[name].raw and all(item.label < half for part in items.values() for item in part):
        raise UserError(
            f"{root} has no label above 15: they seem to be VTAB's 16 classes already. Shards of {name} give the "
            f"number of the factor's value, as the hub's copy does: get that, or {how_to_get(name)}"
        )


def how_to_get(name: str) -> str:
    """Return what to do for a set of the data folder."""
    folder, record = SETS[name].folders[0], SETS[name]
    forms = ["with train800.txt, val200.txt, test.txt and images"]
    if record.torchvision:
        forms.append(f"as torchvision's {record.torchvision} makes it")
    there = f"put it into a folder {folder} of --data-dir, {', or '.join(forms)}"
    return f"{there}, or put dSprites' own {NPZ} beside it" if record.raw else there
