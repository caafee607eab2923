"""The folder of data that a user names: that it is there, and what is in it.

Names that start with a dot and ``__MACOSX`` folders are passed over, links to folders are followed, and all orders are
those of Unicode code points, whatever the locale.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zipeft.errors import UserError


def require_folder(path: Path | None, task: str) -> Path:
    """Return the folder of the user's data. Raises ``UserError`` if none is named or it is not a folder."""
    if path is None:
        raise UserError(f"task {task} has no data of its own: name a folder with --data-dir")
    path = Path(path).expanduser()
    if not is_folder(path):
        fault = "is not a folder" if is_file(path) else "does not exist"
        raise UserError(f"data folder {path} {fault}: check --data-dir")
    return Path(os.path.abspath(path))  # a name even for "."; links keep the name that the user gave them


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in ``folder``, sorted by name. Raises ``UserError`` if it cannot be read."""
    try:
        entries = [entry for entry in folder.iterdir() if visible(entry.name) and entry.is_dir()]
    except OSError as error:
        raise unreadable(error) from None
    return sorted(entries, key=lambda entry: entry.name)


def is_file(path: Path) -> bool:
    """Return whether a file is there. Raises ``UserError`` where it cannot be told: in a folder that keeps one out."""
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """Return whether a folder is there. Raises ``UserError`` as ``is_file`` does."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise unreadable(error) from None


def visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def unreadable(error: OSError) -> UserError:
    advice = "check its permissions" if isinstance(error, PermissionError) else "check what is there"
    return UserError(f"{error.filename} cannot be read ({error.strerror}): {advice}")
