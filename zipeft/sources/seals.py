"""Files and folders that are made once and kept, each with a seal beside it: the hash that it had then.

Damage on the disk, an interrupted write and an edit all show, as another hash or as no seal.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from zipeft.files import write_atomically
from zipeft.sources.package_index import sha256_of


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, computed once a process as long as the file does not change."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns)
    if key not in _hashed:
        _hashed[key] = sha256_of(path)
    return _hashed[key]


_hashed: dict[tuple[str, int, int], str] = {}


def is_whole(target: Path) -> bool:
    """Whether a file or folder is as ``put`` left it."""
    try:
        return _seal(target).read_text("ascii") == _digest(target)
    except (OSError, ValueError):  # one of the two is not there, cannot be read, or is no text
        return False


def put(made: Path, target: Path) -> None:
    """Move a finished file or folder to its place on the same disk, replacing what is there, and seal it.

    The content is on the disk before the seal is written. The caller holds a lock if others may do the same.
    """
    for file in _files(made):
        sync(file)
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(made, target)
    write_atomically(_seal(target), _digest(target).encode("ascii"))


def sync(file: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _seal(target: Path) -> Path:
    return target.with_name(f".{target.name}.sha256")


def _files(target: Path) -> list[Path]:
    return sorted(path for path in target.rglob("*") if path.is_file()) if target.is_dir() else [target]


def _digest(target: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the names and hashes of its files."""
    if not target.is_dir():
        return file_sha256(target)
    lines = [f"{file_sha256(file)}  {file.relative_to(target).as_posix()}\n" for file in _files(target)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
