"""Locks on files: each is one process's, and ends with it, however that ends."""

from __future__ import annotations

import errno
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from zipeft.errors import UserError

UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What network and user-space file systems say that have no locks."""


class NoLocks(OSError):
    """The file system has no locks."""


def take(file: Path, wait: bool = False) -> FileLock | None:
    """Return the lock of a file, whose folder is made; None if another process has it, unless this is to ``wait``.

    Raises ``OSError`` where no lock can be made, ``NoLocks`` where the file system has none.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        return None
    except NotImplementedError as error:  # what older versions of filelock make of ENOSYS
        raise _no_locks(file) from error
    except OSError as error:
        raise _no_locks(file) if error.errno in UNSUPPORTED else error from error
    return lock


def _no_locks(file: Path) -> NoLocks:
    return NoLocks(errno.ENOLCK, "its file system has no locks", str(file))


def drop(file: Path, lock: FileLock) -> None:
    """Let go of a lock, and delete its file, while it is held, so that it is no other's."""
    with suppress(OSError):  # Windows deletes no open file
        file.unlink()
    lock.release()


def check(folder: Path) -> None:
    """Raise ``UserError`` where a folder takes no locks: before anything is done that needs one."""
    file = folder / f".{uuid.uuid4().hex}.lock"
    try:
        if lock := take(file):
            drop(file, lock)
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise UserError(f"cannot lock a file in {folder} ({error.strerror or error}): {advice(error)}") from error


def advice(error: OSError) -> str:
    """Return what to do about an error of ``take``."""
    return f"choose a folder {'on another file system' if isinstance(error, NoLocks) else 'that can be written'}"
