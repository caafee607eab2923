"""The embedded default of a family: a model in an archive of a package index, written as ``transformers`` saves one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zipeft.sources import package_archive
from zipeft.sources.package_archive import PackageArchive


@dataclass(frozen=True)
class EmbeddedModel:
    """A model that needs a package index and no hub.

    Args:
        name: the name of the checkpoint.
        archive: where its files are.
        form: ends the name of its folder in the cache, and says how it is written there.
        write: writes the folder, as ``save_pretrained`` of model and tokenizer would, from the archive's members.
        longest: how many tokens it takes.
        special: ids of the tokens that pad, begin and end a text.
    """

    name: str
    archive: PackageArchive
    form: str
    write: Callable[[Path], None]
    longest: int
    special: tuple[int, int, int]

    def folder(self) -> Path:
        """Return its folder, written once. Raises ``UserError`` if the archive cannot be had."""
        return package_archive.derived(self.archive, f"{self.name}_{self.form}", self.write)
