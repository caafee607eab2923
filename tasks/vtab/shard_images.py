"""The images and labels in shards, tar or parquet, read where they are."""

from __future__ import annotations

import re
import tarfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.api.data import Split
from zipeft.errors import UserError, one_line
from zipeft.formatting import shortened
from zipeft.images.lazy import Lazy
from zipeft.images.reading import decoded, suffixes
from zipeft.last_only import LastOnly
from zipeft.sources.folder import composed, unreadable
from zipeft.tasks.vtab.sets import SETS

if TYPE_CHECKING:
    from PIL.Image import Image

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


def read_items(path: Path, name: str) -> list[Item]:
    """Return the images and labels of a shard, with the label that VTAB makes of it."""
    record, items = SETS[name], []
    for key, place, text in (_tar if path.suffix == ".tar" else _parquet)(path):
        label = _whole(text)
        if record.raw and record.label and label >= 0:
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


def _tar(path: Path) -> Iterator[tuple[str, tuple[int, int], str]]:
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, str] = {}
    length = path.stat().st_size
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
                    file = bundle.extractfile(info)
                    assert file is not None  # it is a regular file
                    _put(labels, key, file.read(64).decode("utf-8", "replace").strip(), path)
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
    with _opened(path) as (file, _):
        label = _column(path, file.schema_arrow.names, LABEL_COLUMNS)
        labels = file.read(columns=[label]).column(label).to_pylist()
    for row, value in enumerate(labels):
        yield f"row {row}", row, value


def _image_column(path: Path, names: Sequence[str]) -> str:
    return _column(path, names, IMAGE_COLUMNS)


def _column(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise UserError(f"{path} has no column {' or '.join(wanted)} (there: {', '.join(names)}): rename one")


def encoded_images(items: Sequence[Item]) -> Sequence[bytes] | Mapping[int, bytes]:
    """Return the encoded images, by their place among the items: read from their shards when they are asked for, but
    for those of parquet files that fit in memory."""
    from zipeft.training.dataset import fits

    if not items or items[0].shard.suffix != ".parquet":
        return Lazy(_piece, items)
    return _rows(items) if fits(_size(items)) else Rows(items)


def split_of(root: Path, items: Sequence[Item], contents: Sequence[bytes] | Mapping[int, bytes]) -> Split:
    names = [f"{item.shard.relative_to(root).as_posix()}/{item.key}" for item in items]
    images = Lazy(partial(_decoded, contents, names), range(len(items)))
    return Split(images, [item.label for item in items], names)


def _decoded(contents: Sequence[bytes] | Mapping[int, bytes], names: Sequence[str], index: int) -> Image:
    return decoded(contents[index], names[index])


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
    contents: dict[int, bytes] = {}
    for shard in dict.fromkeys(item.shard for item in items):
        wanted = {item.place: index for index, item in enumerate(items) if item.shard == shard}
        with _opened(shard) as (file, column):
            batches = file.iter_batches(256, columns=[column])
            for row, value in enumerate(value for batch in batches for value in batch.column(0)):
                if row in wanted:
                    contents[wanted[row]] = _bytes(value.as_py())
    return contents


class Rows(Sequence[bytes]):
    """The encoded images of rows of parquet files. Of what is read, the last row group alone is kept: in their order
    each is read once."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self._ends: dict[Path, list[int]] = {}
        self._group: LastOnly[tuple[Path, int], Any] = LastOnly(self._read)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        shard, row = self.items[index].shard, self.items[index].place
        if shard not in self._ends:
            with _opened(shard) as (file, _):
                self._ends[shard] = _ends(file.metadata)
        ends = self._ends[shard]
        group = bisect_right(ends, row)
        images = self._group.get((shard, group))
        return _bytes(images[row - (ends[group - 1] if group else 0)].as_py())

    def _read(self, place: tuple[Path, int]) -> Any:
        shard, group = place
        with _opened(shard) as (file, column):
            return file.read_row_group(group, columns=[column]).column(column)


def _ends(metadata: Any) -> list[int]:
    """Return, for each row group, the number of the row behind it."""
    return list(accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)))


def _size(items: Sequence[Item]) -> int:
    """Return about how many bytes the encoded images take: their part of the columns that they are in."""
    total = 0.0
    for shard, rows in Counter(item.shard for item in items).items():
        with _opened(shard) as (file, column):
            groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
            parts = [group.column(index) for group in groups for index in range(group.num_columns)]
            of_images = [part for part in parts if part.path_in_schema.split(".")[0] == column]
            total += sum(part.total_uncompressed_size for part in of_images) * rows / file.metadata.num_rows
    return round(total)


@contextmanager
def _opened(shard: Path) -> Iterator[tuple[Any, str]]:
    """Open a parquet file, and name its column of images. Raises ``UserError`` if it cannot be read."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(shard) as file:
            yield file, _image_column(shard, file.schema_arrow.names)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{shard} cannot be read as parquet ({one_line(error)}): get it again") from None


def _bytes(cell: Any) -> bytes:
    """Return what a cell holds of an encoded image; nothing, which does not decode, where it holds none."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    return content if isinstance(content, bytes) else b""
