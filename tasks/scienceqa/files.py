"""ScienceQA's folder: problems.json, pid_splits.json, and beside them the images, a folder for each problem's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from zipeft import strict_json
from zipeft.api.data import Picture
from zipeft.errors import UserError, one_line
from zipeft.files import read_text, safe_name
from zipeft.formatting import counted
from zipeft.images.assembly import file_hashes
from zipeft.sources.folder import is_file, unreadable
from zipeft.tasks.scienceqa.problems import CATEGORIES, asked_of, has_image
from zipeft.vqa.assembly import Asked, without_broken
from zipeft.vqa.question import picture_of

log = logging.getLogger(__name__)

SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""Our names of the splits, and those of pid_splits.json and of the folders of images."""

OFFICIAL = {"train": 12_726, "validation": 4_241, "test": 4_241}
"""Problems of each split of the published data set, 21,208 in all."""

LOGGED = 20
"""So many broken problems are logged: a folder without images has thousands."""

FORM = "expected problems.json, pid_splits.json and <split>/<id>/image.png, as ScienceQA has them"


@dataclass
class Problems:
    """The problems of a folder by split, and how many could not be taken."""

    splits: dict[str, list[Asked]] = field(default_factory=dict)
    lacking: int = 0
    """Ids in pid_splits.json that the problems' file does not have."""
    with_image: int = 0
    """Problems on an image that were not to be taken."""
    broken: int = 0

    def skip(self, error: UserError, allowed: bool) -> None:
        """Count and log a broken problem. Raises ``UserError`` unless that is ``allowed``."""
        if not allowed:
            raise UserError(f"{error}; scienceqa.skip_broken=true leaves such problems out") from None
        self.broken += 1
        if self.broken <= LOGGED:
            log.warning("left out: %s%s", error, " (others are counted)" * (self.broken == LOGGED))

    def notes(self) -> list[str]:
        """Return what is to be known of the problems, in a few words each."""
        notes = [f"all {sum(OFFICIAL.values()):,} of the published splits"] if self._is_whole() else []
        if self.lacking:
            notes.append(f"left out: {counted(self.lacking, 'id')} of pid_splits.json without a problem")
        if self.with_image:
            notes.append(f"left out: {counted(self.with_image, 'problem')} on an image")
        if self.broken:
            notes.append(f"left out: {counted(self.broken, 'broken problem')}")
        groups = [group for _, answer in self.splits["test"] for group in answer.groups]
        tested = ", ".join(f"{groups.count(name):,} {name}" for name in CATEGORIES if name in groups)
        return [*notes, *([f"all problems for test: {tested}"] if tested else [])]

    def _is_whole(self) -> bool:
        return {split: len(asked) for split, asked in self.splits.items()} == OFFICIAL


def read_folder(root: Path, images: str = "shown", skip_broken: bool = False) -> Problems:
    """Return the problems of a folder in ScienceQA's layout.

    ``images`` is as in ``ScienceQA``. Broken problems, such as one whose image is missing or does not decode, are left
    out, counted and logged if ``skip_broken``; else refused (an image's pixels when it is read). Raises ``UserError``
    that names the file and the problem.
    """
    path = _problems_file(root)
    problems, ids = _object(path), _ids(root / "pid_splits.json")
    found = Problems()
    for split, own in ids.items():
        found.splits[split] = []
        for number in own:
            if number not in problems:
                found.lacking += 1
            elif images == "left_out" and has_image(problems[number]):
                found.with_image += 1
            else:
                where = f"{path}: problem {number}"
                find = partial(_find_picture, root, f"{SPLITS[split]}/{number}") if images == "shown" else None
                try:
                    found.splits[split].append(asked_of(where, number, problems[number], find))
                except UserError as error:
                    found.skip(error, skip_broken)
    if skip_broken:
        _drop_broken_pictures(found)
    return found


def _drop_broken_pictures(found: Problems) -> None:
    """Leave out the problems whose picture does not decode, which are logged."""
    whole, _ = without_broken(found.splits)
    lost = sum(len(found.splits[split]) - len(whole[split]) for split in whole)
    found.splits, found.broken = whole, found.broken + lost


def _find_picture(root: Path, folder: str, name: str) -> Picture | None:
    """Return a picture, named by its place: where the published archives put it, or below a folder "images"."""
    for place in (f"{folder}/{name}", f"images/{folder}/{name}"):
        if is_file(root / place):
            return picture_of(root / place, place)
    return None


def fingerprints(root: Path, splits: Mapping[str, Sequence[Asked]]) -> dict[str, str | int]:
    """Return what stands for the pixels of each picture: the file's hash, or its size where all are too large."""
    names = sorted({question.picture.name for asked in splits.values() for question, _ in asked if question.picture})
    hashes = file_hashes(root / name for name in names)
    return {name: hashes.get(root / name) or (root / name).stat().st_size for name in names}


# --- the two files ----------------------------------------------------------------------------------------------------


def _problems_file(root: Path) -> Path:
    """Return problems.json, or the one file that is named like it ("problems_part.json")."""
    if is_file(own := root / "problems.json"):
        return own
    others = sorted(path for path in root.glob("problems*.json") if is_file(path))
    if len(others) > 1:
        names = " and ".join(path.name for path in others[:2])
        raise UserError(f"{root} has {names}: name the one that is meant problems.json")
    if not others:
        raise UserError(f"{root} has no problems.json: {FORM}")
    return others[0]


def _ids(path: Path) -> dict[str, list[str]]:
    """Return the ids of the problems of each split. Raises ``UserError`` for an id that is given twice."""
    if not is_file(path):
        raise UserError(f"{path.parent} has no {path.name}: {FORM}")
    listed, seen = _object(path), dict[str, str]()
    found = {split: _checked_ids(path, name, listed.get(name)) for split, name in SPLITS.items()}
    for split, number in ((split, number) for split, ids in found.items() for number in ids):
        if number in seen:
            where = f"in {SPLITS[seen[number]]} and in {SPLITS[split]}" if seen[number] != split else "listed twice"
            raise UserError(f"{path}: problem {number} is {where}: keep it once")
        seen[number] = split
    return found


def _checked_ids(path: Path, name: str, ids: Any) -> list[str]:
    if not isinstance(ids, list):
        raise UserError(f"{path} has no list {name!r} of ids: {FORM}")
    for number in ids:
        if isinstance(number, bool) or not isinstance(number, str | int) or safe_name(str(number)) != str(number):
            raise UserError(f"{path} has the id {number!r:.60} in {name!r}, which names no folder: correct it")
    return [str(number) for number in ids]


def _object(path: Path) -> Mapping[str, Any]:
    """Return the object that a JSON file holds. Raises ``UserError``."""
    try:
        content = strict_json.parse(read_text(path))
    except OSError as error:
        raise unreadable(error) from None
    except ValueError as error:  # an encoding other than UTF-8, too
        raise UserError(f"{path} is no JSON ({one_line(error)}): get it again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: {FORM}")
    return content
