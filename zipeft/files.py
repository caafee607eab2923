"""Files: safe names, and writes that leave either the old file or the whole new one."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from zipeft.errors import CannotWrite


def safe_name(name: str) -> str:
    """Return a name that is safe as a part of a path on every system."""
    return re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", name) or "_"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, folders included. Raises ``CannotWrite`` where that is not possible."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb") as file:
                file.write(content)
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
