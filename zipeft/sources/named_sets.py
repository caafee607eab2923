"""Published data sets by name: which one a user means, and which folders of the user's data hold which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zipeft.errors import UserError, did_you_mean
from zipeft.sources.folder import require_folder, subfolders


@dataclass(frozen=True)
class PublishedSet:
    """A published data set. ``folders`` are the names that its folder goes by, as ``plain`` writes them."""

    folders: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names that its folder may have."""
        return self.folders


@dataclass(frozen=True)
class NamedSets:
    """The published data sets of a task.

    ``folders`` maps the name of each to the names that its folder goes by, as ``plain`` writes them.
    """

    task: str
    folders: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, task: str, sets: Mapping[str, PublishedSet]) -> NamedSets:
        """Return the published data sets of a task by the names of their folders."""
        return cls(task, {name: published.names for name, published in sets.items()})

    def find(self, name: str, there: Collection[str] | None = None) -> str | None:
        """Return which of the sets ``there`` (all, if it is None) is meant: by itself or by the name of its folder."""
        there = self.folders if there is None else there
        if name in there:
            return name
        for known in there:
            if plain(name) in (plain(known), *self.folders.get(known, ())):
                return known
        return None

    def known(self, name: str, there: Sequence[str], where: str, elsewhere: str = "") -> str:
        """Return which of the sets ``there`` is meant.

        Raises ``UserError`` if none is, with ``where`` they were looked for, and, if ``name`` is one of the published
        sets, ``elsewhere``: how to have it.
        """
        if (match := self.find(name, there)) is not None:
            return match
        hint = f"; {elsewhere}" if elsewhere and self.find(name) else did_you_mean(name, there)
        raise UserError(f"no data set {name!r} {where}{hint} (there: {', '.join(there)})")

    def inside(self, root: Path) -> dict[str, Path]:
        """Return the folders of the sets in ``root``, or ``root`` itself, by the sets' names, in their order.

        Raises ``UserError`` for two folders of one set.
        """
        if (name := self.find(root.name)) is not None:
            return {name: root}
        found: dict[str, Path] = {}
        for folder in subfolders(root):
            if (name := self.find(folder.name)) is not None:
                if name in found:
                    raise UserError(f"{root} has two folders of {name}, {found[name].name} and {folder.name}: keep one")
                found[name] = folder
        return {name: found[name] for name in self.folders if name in found}

    def places(self, data_dir: Path | None, advice: str = "rename the folder") -> dict[str, Path]:
        """Return the folders of the sets in the user's folder, as ``inside`` does. Raises ``UserError`` if none is."""
        root = require_folder(data_dir, self.task)
        if not (found := self.inside(root)):
            raise UserError(f"{root} is not and does not hold a folder named {', '.join(self.folders)}: {advice}")
        return found


def plain(name: str) -> str:
    """Return a name in lower case, without spaces, hyphens, underscores and dots."""
    return "".join(character for character in name.lower() if character not in " -_.")
