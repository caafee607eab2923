"""A set of VTAB in files of many images: tar shards as CLIP benchmark has them on the hub, or parquet.

Shards lie in folders ``train`` and ``test``, or their names begin with these words. In a tar, an image and a file
"<key>.cls" with its label have the same key. Images are read where they are: nothing is extracted.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError, one_line
from zipeft.formatting import shortened
from zipeft.images.assembly import note_shared_images
from zipeft.images.reading import decoded, suffixes
from zipeft.sources.folder import composed, unreadable, visible
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.sources.package_archive import file_sha256
from zipeft.tasks.vtab.data import (
    NOT_VTABS,
    Lazy,
    Sizes,
    check_test,
    first_thousand,
    limited,
    numbered,
    vtab_data,
    without_broken,
)
from zipeft.tasks.vtab.dsprites import NPZ
from zipeft.tasks.vtab.sets import SETS

KINDS = (".tar", ".parquet")

SPLITS = ("train", "test")

LARGEST = 1 << 30
"""Bytes: what a tar claims to be an image of more is none."""

IMAGE_COLUMNS = ("image", "img", "webp", "png", "jpg", "jpeg")
LABEL_COLUMNS = ("label", "cls", "labels", "fine_label")
"""What the columns of a parquet file are called, the best first."""


class Item(NamedTuple):
    """An image and its label: ``place`` is its number in a parquet file, or its offset and size in a tar."""

    shard: Path
    key: str
    place: Any
    label: int


def find(root: Path) -> dict[str, list[Path]]:
    """Return the shards of each split in a folder, in the order of their numbers; none if there are none.

    Raises ``UserError`` if one is missing: "nshards.txt" and names such as "train-00000-of-00002" say how many
    there are.
    """
    for kind in KINDS:
        paths = sorted((path for path in root.rglob(f"*{kind}") if path.is_file()), key=_numbers)
        found = {split: [path for path in paths if _split_of(path.relative_to(root)) == split] for split in SPLITS}
        if any(found.values()):
            for split, shards in found.items():
                _check_count(root, split, shards)
            return found
    return {}


def load(name: str, root: Path, source: str, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set: 800 and 200 of its training images, drawn by the seed, and its test images.

    Raises ``UserError``, which names the shard, for what cannot be read, and for a label that the set does not have.
    """
    shards, notes = find(root), [NOT_VTABS, f"train and validation drawn with seed {sizes.split_seed}"]
    items = {split: [item for path in paths for item in _items(path, name)] for split, paths in shards.items()}
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
        contents = _contents(taken)
        splits[split] = _split(root, taken, contents)
        hashes[split] = [hashlib.sha256(contents[index]).digest() for index in range(len(taken))]
    notes += note_shared_images(f"{root}", {*hashes["train"], *hashes["validation"]}, hashes["test"])
    if skip_broken:
        splits = without_broken(splits, notes)
    content = [[path.relative_to(root).as_posix(), file_sha256(path)] for paths in shards.values() for path in paths]
    return vtab_data(name, numbered(SETS[name].classes), splits, source=source, content=content, notes=notes)


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
        if not find(path):
            raise HubUnavailable("it has no such files")
    except HubUnavailable as reason:
        raise UserError(
            f"the hub did not give {repository.name} ({reason}): connect, or {how_to_get(name)}"
        ) from reason
    return path


def _is_whole(copy: Path) -> bool:
    try:
        return bool(find(copy))
    except UserError:  # an earlier download was cut off
        return False


def how_to_get(name: str) -> str:
    """Return what to do for a set of the data folder."""
    folder, record = SETS[name].folders[0], SETS[name]
    forms = ["with train800.txt, val200.txt, test.txt and images"]
    if record.torchvision:
        forms.append(f"as torchvision's {record.torchvision} makes it")
    there = f"put it into a folder {folder} of --data-dir, {', or '.join(forms)}"
    return f"{there}, or put dSprites' own {NPZ} beside it" if record.raw else there


# --- finding shards ---------------------------------------------------------------------------------------------------


def _numbers(path: Path) -> list[tuple[int, str]]:
    """Return a key by which "2.tar" comes before "10.tar"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]


def _split_of(path: Path) -> str | None:
    if not all(map(visible, path.parts)):
        return None
    return next((split for split in SPLITS for part in path.parts if re.match(rf"{split}\b|{split}[-_.]", part)), None)


def _check_count(root: Path, split: str, shards: Sequence[Path]) -> None:
    if not shards:
        raise UserError(f"{root} has no shards of {split}: add {split}/0.tar and so on, or parquet files")
    folder = shards[0].parent
    if match := re.search(r"-of-(\d{1,9})$", shards[0].stem):
        expected = int(match[1])
    elif shards[0].suffix == ".tar":
        expected = _stated_count(folder / "nshards.txt", split)
    else:
        return
    if expected != len(shards):
        raise UserError(f"{folder} has {len(shards)} of {expected} shards of {split}: add the others")


def _stated_count(path: Path, split: str) -> int:
    """Return how many shards a folder has when it is whole. Without that, a part of them would pass for all."""
    text = path.read_text("utf-8", "replace").strip() if path.is_file() else ""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise UserError(f"{path} does not say how many shards of {split} there are: get it, or write the number there")
    return int(text)


# --- reading them -----------------------------------------------------------------------------------------------------


def _items(path: Path, name: str) -> list[Item]:
    """Return the images and labels of a shard, with the label that VTAB makes of it."""
    record, items = SETS[name], []
    for key, place, text in (_tar if path.suffix == ".tar" else _parquet)(path):
        label = _whole(text)
        if record.raw and label >= 0:
            label = record.label(label)
        if not 0 <= label < record.classes:
            given = str(text)[:20]
            raise UserError(f"{path} gives {key} the label {given!r}, which {name} does not have: get the file again")
        items.append(Item(path, key, place, label))
    return items


def _whole(label: Any) -> int:
    """Return a label as the whole number that it is; -1 for anything else."""
    if isinstance(label, str):
        return int(label) if re.fullmatch(r"\d{1,9}", label, re.ASCII) else -1
    return label if isinstance(label, int) and not isinstance(label, bool) else -1


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


def _tar(path: Path) -> Iterator[tuple[str, tuple[int, int], str]]:
    images, labels, length = {}, {}, path.stat().st_size
    try:
        with tarfile.open(path, "r:") as bundle:
            for info in bundle:
                key, _, suffix = composed(info.name).removeprefix("./").rpartition(".")
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    fault = "is a sparse file" if info.isreg() else "is a link or device"
                    raise UserError(f"{path} has {shortened(info.name)}, which {fault}: get the file again")
                if info.size > min(LARGEST, length - info.offset_data):
                    raise tarfile.TarError(f"{shortened(info.name)} claims to have {info.size:,} bytes")
                if f".{suffix.lower()}" in suffixes():
                    _put(images, key, (info.offset_data, info.size), path)
                elif suffix == "cls":
                    label = bundle.extractfile(info).read(64).decode("utf-8", "replace").strip()
                    _put(labels, key, label, path)
            end = bundle.offset
        _check_end(path, end)
    except UserError:
        raise
    except Exception as error:  # headers that do not fit make tarfile raise many kinds: ValueError, MemoryError, ...
        reason = one_line(error)
        raise UserError(f"{path} cannot be read as a tar file ({reason}): get it again") from None
    if alone := images.keys() ^ labels.keys():
        raise UserError(
            f"{path} has {min(alone)} without {'a label' if min(alone) in images else 'an image'}: get it again"
        )
    for key, place in images.items():
        yield key, place, labels[key]


def _put(found: dict[str, Any], key: str, value: Any, path: Path) -> None:
    if key in found:
        raise UserError(f"{path} has two images or labels named {key}: remove one")
    found[key] = value


def _check_end(path: Path, end: int) -> None:
    """Raise ``TarError`` unless nothing but empty blocks follow the last member: reading stops without a word both
    where a file was cut off between two members, and at a damaged one."""
    with open(path, "rb") as file:
        file.seek(end)
        rest = file.read(tarfile.BLOCKSIZE)
        if len(rest) < tarfile.BLOCKSIZE:
            raise tarfile.TarError("its end is missing")
        while rest:
            if any(rest):
                raise tarfile.TarError(f"it is damaged at byte {end:,}")
            rest = file.read(1 << 20)


def _parquet(path: Path) -> Iterator[tuple[str, int, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _image_column(path, file.schema_arrow.names)
            label = _column(path, file.schema_arrow.names, LABEL_COLUMNS)
            labels = file.read(columns=[label]).column(label).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read as parquet ({one_line(error)}): get it again") from None
    for row, value in enumerate(labels):
        yield f"row {row}", row, value


def _image_column(path: Path, names: Sequence[str]) -> str:
    return _column(path, names, IMAGE_COLUMNS)


def _column(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise UserError(f"{path} has no column {' or '.join(wanted)} (there: {', '.join(names)}): rename one")


def _contents(items: Sequence[Item]) -> Sequence[bytes] | Mapping[int, bytes]:
    """Return the encoded images, by their place among the items."""
    return _rows(items) if items and items[0].shard.suffix == ".parquet" else Lazy(_piece, items)


def _split(root: Path, items: Sequence[Item], contents: Sequence[bytes] | Mapping[int, bytes]) -> Split:
    names = [f"{item.shard.relative_to(root).as_posix()}/{item.key}" for item in items]
    images = Lazy(lambda index: decoded(contents[index], names[index]), range(len(items)))
    return Split(images, [item.label for item in items], names)


def _piece(item: Item) -> bytes:
    offset, size = item.place
    try:
        with open(item.shard, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise unreadable(error) from None


def _rows(items: Sequence[Item]) -> dict[int, bytes]:
    """Return the encoded images of rows of parquet files, which are read batch by batch and kept in part."""
    import pyarrow

    contents: dict[int, bytes] = {}
    for shard in dict.fromkeys(item.shard for item in items):
        wanted = {item.place: index for index, item in enumerate(items) if item.shard == shard}
        try:
            for row, value in enumerate(_images(shard)):
                if row in wanted:
                    contents[wanted[row]] = _bytes(value.as_py())
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{shard} cannot be read as parquet ({one_line(error)}): get it again") from None
    return contents


def _images(shard: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(shard) as file:
        column = _image_column(shard, file.schema_arrow.names)
        for batch in file.iter_batches(256, columns=[column]):
            yield from batch.column(0)


def _bytes(cell: Any) -> bytes:
    """Return what a cell holds of an encoded image; nothing, which does not decode, where it holds none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""
