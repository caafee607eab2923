"""The folder of data that a user names: that it is there, and what is in it.

Names that start with a dot and those that systems give to what is their own (``OF_SYSTEMS``) are passed over, links to
folders are followed, and names are sorted by Unicode code points, whatever the locale. Names are compared in Unicode's
NFC, as macOS writes accents apart from their letters (NFD).
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from pathlib import Path, PurePath

from zipeft.errors import UserError
from zipeft.files import KINDS
from zipeft.formatting import shortened

OF_SYSTEMS = {
    "__macosx", "@eadir", "@recycle", "#recycle", "#snapshot", "lost+found", "$recycle.bin",
    "system volume information", "thumbs.db", "desktop.ini",
}  # fmt: skip
"""What macOS, Synology's and QNAP's disks, Linux and Windows put beside a user's files, in lower case."""


def require_folder(path: Path | None, task: str) -> Path:
    """Return the folder of the user's data. Raises ``UserError`` if none is named or it is not a folder."""
    if path is None:
        raise UserError(f"task {task} has no data of its own: name a folder with --data-dir")
    return _place(Path(path), stat.S_IFDIR)


def require_data(path: Path) -> Path:
    """Return the folder or the file of the user's data. Raises ``UserError`` if it is neither."""
    return _place(path, stat.S_IFDIR, stat.S_IFREG)


def _place(path: Path, *kinds: int) -> Path:
    path = path.expanduser()
    if (kind := stat.S_IFMT(_mode(path))) not in kinds:
        fault = f"is not a folder but {KINDS.get(kind, 'a file')}" if kind else "does not exist"
        raise UserError(f"data folder {shortened(path)} {fault}: check --data-dir")
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
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a NUL, which no name has
        return 0
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return 0
        raise unreadable(error) from None


def locate(root: Path, path: str) -> Path | None:
    """Return the file in ``root`` that a list names, or None if it is not there.

    The list may be from another system: with backslashes between folders, or its names in another form of Unicode than
    the disk's. Raises ``UserError`` as ``is_file`` does.
    """
    for written in dict.fromkeys((path, path.replace("\\", "/"))):
        place = root / written
        if not written.isascii() and not is_file(place):
            place = root
            for part in PurePath(written).parts:
                place = _entry(place, part)
        if is_file(place):
            return place
    return None


def _entry(folder: Path, name: str) -> Path:
    forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((folder / form for form in forms if _mode(folder / form)), folder / name)


def composed(name: str) -> str:
    """Return a name in the form in which names are compared (NFC)."""
    return unicodedata.normalize("NFC", name)


def visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in OF_SYSTEMS


def unreadable(error: OSError) -> UserError:
    advice = "check its permissions" if isinstance(error, PermissionError) else "check what is there"
    return UserError(f"{shortened(error.filename)} cannot be read ({error.strerror}): {advice}")
