"""Pointers that Git LFS leaves in the place of large files until they are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from zipeft.errors import UserError
from zipeft.files import open_file

POINTER = b"version https://git-lfs.github.com/spec/"
IS_POINTER = "is a pointer of Git LFS and not the file itself: run git lfs pull there"


def check_fetched(file: Path) -> None:
    """Raise ``UserError`` for a file in whose place Git LFS left a pointer to it, and ``OSError`` if it has none."""
    with open_file(file) as stream:
        if is_pointer(stream):
            raise UserError(f"{str(file)!r} {IS_POINTER}")


def is_pointer(stream: BinaryIO) -> bool:
    """Whether what follows in a file is what Git LFS leaves in the place of one."""
    return stream.read(len(POINTER)) == POINTER
