"""Where a published set of VTAB is: which folders of the user's data hold which sets, in which form."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zipeft.api.data import Data
from zipeft.errors import UserError
from zipeft.sources.folder import is_file, require_folder
from zipeft.sources.named_sets import NamedSets
from zipeft.tasks.vtab import dsprites, shards, torchvision
from zipeft.tasks.vtab import folder as vtab_folder
from zipeft.tasks.vtab.data import Sizes
from zipeft.tasks.vtab.sets import NAMED, SETS
from zipeft.tasks.vtab.shard_files import find_shards


def places(data_dir: Path) -> dict[str, Path]:
    """Return where the sets are, as ``find`` does. Raises ``UserError`` also if nothing is found."""
    root = require_folder(data_dir, "vtab")
    if not (found := find(root)):
        raise UserError(
            f"{root} is not and does not hold a folder of a set of VTAB ({', '.join(SETS)}): rename the folder, "
            "or see zipeft fetch vtab"
        )
    return found


def find(root: Path, names: Iterable[str] = SETS) -> dict[str, Path]:
    """Return where the sets of these names are, by name: a folder each, or the file of dSprites, which holds two.

    ``root`` is the folder of a set or holds several, and dSprites' file lies in it or in its folder "dsprites". A
    folder of the set goes before that file. Raises ``UserError`` for two folders of one set.
    """
    found = NamedSets("vtab", {name: NAMED.folders[name] for name in names}).inside(root)
    for folder in () if root in found.values() else (root, root / "dsprites"):
        if is_file(folder / dsprites.NPZ):
            for task in dsprites.TASKS:
                found.setdefault(f"dsprites-{task}", folder / dsprites.NPZ)
    return {name: found[name] for name in names if name in found}


def load(name: str, place: Path, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set that is at a place, whatever its form. Raises ``UserError`` if it is in none that is known."""
    if is_file(place):
        return dsprites.load_published(name, name.removeprefix("dsprites-"), sizes, place)
    if vtab_folder.is_layout(place):
        return vtab_folder.load(name, place, sizes, skip_broken=skip_broken)
    if find_shards(place):
        return shards.load(name, place, f"folder {place.name}", sizes, skip_broken=skip_broken)
    if SETS[name].torchvision:
        return torchvision.load(name, place, sizes, skip_broken=skip_broken)
    lists = ", ".join(vtab_folder.FILES.values())
    raise UserError(f"{place} has neither {lists} nor tar or parquet files in train and test: add them")
