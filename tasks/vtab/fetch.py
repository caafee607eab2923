"""What ``zipeft fetch vtab`` does: embedded sets into the cache, published sets into the data folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from zipeft.errors import UserError
from zipeft.sources.folder import is_folder
from zipeft.tasks.vtab import embedded, places, shards
from zipeft.tasks.vtab.data import Sizes
from zipeft.tasks.vtab.sets import SETS

ALL = Sizes(split_seed=0, test_examples=0)


def fetch(folder: Path | None, names: Sequence[str], *, asked: bool) -> Iterator[tuple[str, str]]:
    """Yield each set's name and what came of it, one line. No set keeps the others from being fetched.

    Raises ``UserError`` in the end if they were asked for by name and one is not there.
    """
    missing = []
    for name in names:
        try:
            yield name, embedded.fetch(name) if name in embedded.EMBEDDED else _published(name, folder)
        except UserError as error:
            missing.append(name)
            yield name, f"not there: {error}"
    if asked and missing:
        raise UserError(f"{len(missing)} of {len(names)} sets are not there: {', '.join(missing)}; see above")


def _published(name: str, folder: Path | None) -> str:
    if folder is None:
        how = "name a folder with --data-dir to get a copy there" if SETS[name].hub else shards.how_to_get(name)
        raise UserError(f"{how}; VTAB's own is {SETS[name].tfds} of TensorFlow ({SETS[name].split}); {_licence(name)}")
    target = folder / SETS[name].hub.rpartition("/")[2]
    place = (places.find(folder, [name]) if is_folder(folder) else {}).get(name)
    if place is not None and place != target:
        return f"there already: {_verified(name, place)}"
    if place == target:
        try:
            return f"there already: {_verified(name, place)}"
        except UserError:
            pass  # an earlier download was cut off or damaged: it goes on
    shards.download(name, target)
    return f"ready: {_verified(name, target)}"


def _verified(name: str, place: Path) -> str:
    """Load a set whole, so that its counts, labels and files are checked, and say what is there."""
    data = places.load(name, place, ALL)
    return f"{place.name}, {data.note}; checksum {data.checksum[:8]}; {_licence(name)}"


def _licence(name: str) -> str:
    return f"licence: {SETS[name].licence or 'see its authors'}"
