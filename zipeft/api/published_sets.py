"""Tasks on published data sets, which lie in a folder of the user's, come from the hub, or have embedded stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from zipeft.api.task import Task
from zipeft.errors import require
from zipeft.sources.named_sets import NamedSets


@dataclass(frozen=True)
class PublishedSetsTask(Task):
    """A task on published data sets: which of them are there, and which of those a run takes."""

    sets: tuple[str, ...] = ()
    """Names of the data sets to take; none for all there are."""

    named: ClassVar[NamedSets]
    """The published sets, by name."""

    embedded: ClassVar[Sequence[str]] = ()
    """The sets that need no folder."""

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "sets")

    def datasets(self) -> Sequence[str]:
        there = tuple(self.there())
        return tuple(dict.fromkeys(self.find(name, there) for name in self.sets)) or there

    def known(self, name: str) -> str:
        """Return which data set of this instance is meant. Raises ``UserError`` if none is."""
        return self.find(name, self.datasets())

    def there(self) -> Sequence[str]:
        """Return the names of all data sets there are, whatever ``sets`` takes of them."""
        return list(self.named.places(self.data_dir)) if self.data_dir else self.embedded

    def find(self, name: str, there: Sequence[str]) -> str:
        """Return which of the data sets ``there`` is meant. Raises ``UserError`` if none is."""
        return self.named.known(name, there, self._where(), self._elsewhere())

    def _where(self) -> str:
        return f"in {self.data_dir}" if self.data_dir else "embedded"

    def _elsewhere(self) -> str:
        """Say how to have a published set that is not there."""
        return "" if self.data_dir else "name its folder with --data-dir"


@dataclass(frozen=True)
class HubSetsTask(PublishedSetsTask):
    """A task whose published data sets the Hugging Face hub has, too."""

    source: Literal["", "hub"] = ""
    """"hub" downloads the published sets from the Hugging Face hub."""

    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir", "sets", "source")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.source in ("", "hub"), f"source is {self.source!r}: give hub, or nothing")
        require(not (self.source and self.data_dir), "source is hub and data_dir is set: drop one")

    def there(self) -> Sequence[str]:
        return self.on_hub() if self.source else super().there()

    def on_hub(self) -> Sequence[str]:
        """Return the names of the data sets that the hub has."""
        return list(self.named.folders)

    def _where(self) -> str:
        return "on the hub" if self.source else super()._where()

    def _elsewhere(self) -> str:
        if self.data_dir:
            return ""
        ways = [super()._elsewhere(), *([] if self.source else [f"get it with --set {self.named.task}.source=hub"])]
        return ", or ".join(ways)
