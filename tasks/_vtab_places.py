"""Where a published set of VTAB is: which folders of the user's data hold which sets, in which form."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zipeft.data import Data
from zipeft.data_folder import is_file, require_folder
from zipeft.errors import UserError
from zipeft.named_sets import NamedSets
from zipeft.tasks import _dsprites, _vtab_folder, _vtab_shards, _vtab_torchvision
from zipeft.tasks._vtab_data import Sizes
from zipeft.tasks._vtab_sets import NAMED, SETS


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
        if is_file(folder / _dsprites.NPZ):
            for task in _dsprites.TASKS:
                found.setdefault(f"dsprites-{task}", folder / _dsprites.NPZ)
    return {name: found[name] for name in names if name in found}


def load(name: str, place: Path, sizes: Sizes, *, skip_broken: bool = False) -> Data:
    """Return the set that is at a place, whatever its form. Raises ``UserError`` if it is in none that is known."""
    if is_file(place):
        return _dsprites.load_published(name, name.removeprefix("dsprites-"), sizes, place)
    if _vtab_folder.is_layout(place):
        return _vtab_folder.load(name, place, sizes, skip_broken=skip_broken)
    if _vtab_shards.find(place):
        return _vtab_shards.load(name, place, f"folder {place.name}", sizes, skip_broken=skip_broken)
    if SETS[name].torchvision:
        return _vtab_torchvision.load(name, place, sizes, skip_broken=skip_broken)
    lists = ", ".join(_vtab_folder.FILES.values())
    raise UserError(f"{place} has neither {lists} nor tar or parquet files in train and test: add them")
