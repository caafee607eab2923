"""Pointers that Git LFS leaves instead of large files until it fetches them."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from zipeft.errors import UserError
from zipeft.files import open_file

POINTER = b"version https://git-lfs.github.com/spec/"
IS_POINTER = "is a pointer of Git LFS and not the file itself: run git lfs pull there"


def check_fetched(file: Path) -> None:
    """Raise ``UserError`` for a pointer of Git LFS, and ``OSError`` for a file that cannot be read."""
    with open_file(file) as stream:
        if is_pointer(stream):
            raise UserError(f"{str(file)!r} {IS_POINTER}")


def is_pointer(stream: BinaryIO) -> bool:
    """Whether a file, read from here on, is a pointer of Git LFS."""
    return stream.read(len(POINTER)) == POINTER
