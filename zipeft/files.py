"""Files: safe names, reads of nothing but files, and writes that leave either the old file or the whole new one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from zipeft.errors import CannotWrite

WHOLE = 4 << 30
"""Bytes: no file that is larger is read as a whole."""

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What stands where a file was expected."""


class NotAFile(OSError):
    """A path leads to something else than a regular file; ``strerror`` says to what."""


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading. Raises ``NotAFile`` for anything but a regular one: a FIFO would be waited for without
    an end, a device may have no end."""
    try:
        file = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115, the caller closes it
    except IsADirectoryError as error:
        raise _not_a_file(path, stat.S_IFDIR) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # what a socket says
            raise _not_a_file(path, stat.S_IFSOCK) from error
        raise
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _not_a_file(path, mode)
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has no FIFOs among its files


def _not_a_file(path: Path, mode: int) -> NotAFile:
    return NotAFile(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file", str(path))


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """Open a text in UTF-8, with or without a byte order mark. Raises ``NotAFile`` as ``open_file`` does."""
    return TextIOWrapper(open_file(path), encoding="utf-8-sig", newline=newline)


def read_whole(path: Path, limit: int = WHOLE) -> bytes:
    """Return what a file holds. Raises ``NotAFile`` as ``open_file`` does, and ``OSError`` above ``limit`` bytes."""
    parts, size = [], 0
    with open_file(path) as file:
        while part := file.read(1 << 20):
            size += len(part)
            if size > limit:
                raise OSError(errno.EFBIG, f"it is larger than {limit >> 20:,} MiB", str(path))
            parts.append(part)
    return b"".join(parts)


def read_text(path: Path, limit: int = WHOLE) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark; all line breaks become "\\n". Raises what
    ``read_whole`` does, and ``UnicodeDecodeError``."""
    text = read_whole(path, limit).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_target(path: Path) -> None:
    """Raise ``CannotWrite`` where something stands that is no file and that no file may replace, such as a FIFO."""
    try:
        open_file(path).close()
    except NotAFile as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror}; name another file") from None
    except OSError:  # none is there, or none that can be read: writing says what is wrong
        pass


def safe_name(name: str) -> str:
    """Return a name that is safe as a part of a path on every system: itself, if it is.

    Any other keeps what is safe of it, and a hash tells it from those of which the same is left. The "~" before it
    stands in no safe name.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", name) or "_"
    return safe if safe == name else f"{safe[:100]}~{_digest(name, 8)}"


def _digest(name: str, length: int) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:length]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, folders included. Raises ``CannotWrite`` where that is not possible."""
    write_parts_atomically(path, lambda file: file.write(content))


def write_parts_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file whole or not at all, as ``write_atomically`` does: ``write`` puts its content into an open file."""
    check_target(path)
    temporary = path.with_name(f"{temporary_prefix(path)}{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotWrite(
            f"cannot write {path}: {error.strerror or error}; choose a folder that can be written"
        ) from error


def clear_leftovers(path: Path) -> None:
    """Delete what ``write_atomically`` left beside a file where it was killed; for who alone writes that file."""
    delete_leftovers(path.parent.glob(f"{temporary_prefix(path)}*.tmp"))


def delete_leftovers(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):  # the next one may
            file.unlink()


def temporary_prefix(path: Path) -> str:
    """Return how the names begin under which a file is written before it gets its own."""
    return f".{_digest(path.name, 16)}."  # the name itself may leave no room for more
