"""What a folder of records held when it was first looked into, by the ids that the names of its files end with."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from zipeft.files import safe_name, temporary_prefix

SUFFIX = ".json"


def file_name(method: str, which: str, id: str) -> str:
    """Return the name of a record's file; ``which`` tells it from others of its method."""
    return f"{safe_name(method)}-{which}-{id}{SUFFIX}"


class Listing:
    """The files of a folder, which is read once however often something is looked for in it.

    What other processes write later has the name that ``file_name`` gives it, and is looked for by that. So a file that
    is listed need not be there any more, and one that is not listed may be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_id: dict[str, list[str]] = defaultdict(list)
        self._temporary: dict[str, list[str]] = defaultdict(list)
        try:
            names = os.listdir(folder)
        except OSError:  # there is none, or none that can be read: opening a file in it says why
            names = []
        for name in names:
            if name.startswith("."):
                self._temporary[name[: name.find(".", 1) + 1]].append(name)
            elif name.endswith(SUFFIX):
                self._by_id[name.removesuffix(SUFFIX).rpartition("-")[2]].append(name)

    def files(self, id: str, *names: str) -> list[Path]:
        """Return the files that may hold a record: those of given names first, then others with its id."""
        return [self.folder / name for name in dict.fromkeys((*names, *sorted(self._by_id.get(id, ()))))]

    def leftovers(self, path: Path) -> list[Path]:
        """Return what a process that was killed left where it wrote a file, before the folder was listed."""
        return [self.folder / name for name in self._temporary.get(temporary_prefix(path), ())]
