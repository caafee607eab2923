"""Which data sets of questions a folder, a file, the hub or the carrier holds, and in which files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zipeft.errors import UserError
from zipeft.sources.folder import require_data
from zipeft.sources.hub_download import HubUnavailable, Repository
from zipeft.tasks.bigbench_archive import ARCHIVE, benchmark_files
from zipeft.text.tables import find_split

EMBEDDED = "squad-dev"
SHIFTED = ("new_wiki", "nyt", "reddit", "amazon")
ARCHIVE_FILES = {
    "all": "squaddev_v1.1",
    "new_wiki": "new_wiki_v1.0",
    "nyt": "nyt_v1.0",
    "reddit": "reddit_v1.0",
    "amazon": "amazon_reviews_v1.0",
}

PUBLISHED = {"squad-v1.1": "v1.1", "squad-v2.0": "v2.0"}
"""The published data sets, and what their files have in their names: train-v1.1.json and dev-v1.1.json."""

FORM = (
    "expected train-v1.1.json and dev-v1.1.json, train-v2.0.json and dev-v2.0.json, or train, validation and test "
    "files (.json, .jsonl, .parquet); a single file of another name can be the --data-dir itself"
)

STEMS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""Names of the files of a split, without what makes them a kind or a part of one."""


HUB = {
    "squad-v1.1": (Repository("rajpurkar/squad", "7b6d24c440a36b6815f21b70d25016731768db1f", "dataset"), "plain_text"),
    "squad-v2.0": (Repository("rajpurkar/squad_v2", "3ffb306f725f7d2ce8394bc1873b24868140c412", "dataset"), "squad_v2"),
}
"""The repository of each on the hub, and the folder in it that holds a parquet file for each split."""


class Files(NamedTuple):
    """The files of a data set by split ("train", "validation", "test", or "all" where it has none; other names are sets
    of other domains), a short phrase that says where they are from, and perhaps one that says what they are."""

    source: str
    splits: Mapping[str, Sequence[Path]]
    what: str = ""


def local_sets(root: Path) -> dict[str, Files]:
    """Return the data sets of a folder, or that of a single file, by name. Raises ``UserError`` if there is none.

    The published files keep their published names; others are named after their folder or, alone, after themselves.
    """
    root = require_data(Path(root))
    if root.is_file():
        return {root.stem: Files(f"file {root.name}", {"all": [root]})}
    found = _published(root)
    if splits := _generic(root):
        if root.name in found:
            raise UserError(f"{root} holds two data sets named {root.name}: move train.json and the like elsewhere")
        found[root.name] = Files(f"folder {root.name}", splits)
    if not found:
        raise UserError(f"{root} holds no questions: {FORM}")
    return found


def _published(root: Path) -> dict[str, Files]:
    found = {}
    for dataset, version in PUBLISHED.items():
        train, dev = root / f"train-{version}.json", root / f"dev-{version}.json"
        if train.is_file() and dev.is_file():
            found[dataset] = Files(f"folder {root.name}", {"train": [train], "test": [dev]})
        elif train.is_file() or dev.is_file():
            there, gone = (train, dev) if train.is_file() else (dev, train)
            raise UserError(
                f"{root} has {there.name} but no {gone.name}: add it, or give {there.name} itself as --data-dir, "
                "to have it split"
            )
    return found


def _generic(root: Path) -> dict[str, list[Path]]:
    """Return the files named after splits. The dev set of a published set is its test set, so without a test file the
    validation file is; train alone is split."""
    splits = {split: files for split, stems in STEMS.items() if (files := find_split(root, stems))}
    if splits and "train" not in splits:
        there = next(iter(splits.values()))[0].name
        raise UserError(f"{root} has {there} but no train file: add one, or give {there} itself as --data-dir")
    if list(splits) == ["train"]:
        return {"all": splits["train"]}
    if splits and "test" not in splits:
        splits["test"] = splits.pop("validation")
    return splits


def embedded_set(shifted: Sequence[str]) -> Files:
    """Return the files of the embedded set, and those of some of the sets of other domains."""
    names = ("all", *shifted)
    paths = benchmark_files(*(f"squad_shifts/{ARCHIVE_FILES[name]}.json" for name in names))
    files = {name: [path] for name, path in zip(names, paths, strict=True)}
    return Files(ARCHIVE.label, files, "the development set of SQuAD v1.1")


def hub_set(dataset: str) -> Files:
    """Return the files of a published set, downloaded from the hub. Raises ``UserError`` if it does not give them."""
    repository, folder = HUB[dataset]
    files = {}
    for split, name in (("train", "train"), ("test", "validation")):
        path = f"{folder}/{name}-00000-of-00001.parquet"
        try:
            files[split] = [repository.file(path)]
        except HubUnavailable as reason:
            raise UserError(
                f"the hub did not give {path} of {repository.name} ({reason}): connect, or name a folder that holds "
                f"train-{PUBLISHED[dataset]}.json and dev-{PUBLISHED[dataset]}.json with --data-dir"
            ) from reason
    return Files(f"hub {repository.name}@{repository.revision[:7]}", files)
