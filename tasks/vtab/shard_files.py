"""Which shards of each split a folder holds, and whether all of them are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from zipeft.errors import UserError
from zipeft.sources.folder import visible

KINDS = (".tar", ".parquet")

SPLITS = ("train", "test")


def find_shards(root: Path) -> dict[str, list[Path]]:
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
