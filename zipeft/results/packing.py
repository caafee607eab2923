"""Packing: the records of a data set out of their files into its archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zipeft import locks
from zipeft.errors import UserError
from zipeft.results.archive import archive_of, write_archive
from zipeft.results.reading import places, read_content, result_files
from zipeft.results.record import Failure, Result, from_json
from zipeft.results.store import Store, check_place

Contents = dict[tuple[str, str], Any]
"""What files say, by id and kind."""


def pack(store: Store) -> Iterator[tuple[Path, int]]:
    """Move the records of a store from their files into archives; yield each archive written, and its records.

    Whenever this is cut off, no record is lost: a file is deleted after the archive holds what it says. What another
    process measures anew keeps its file. Raises ``UserError`` for a file that is no valid record or is out of place,
    and for an archive that another process packs.
    """
    for folder in sorted(path for path in store.root.glob("*/*") if path.is_dir()):
        if result_files([folder]):
            archive = archive_of(folder)
            with _alone(archive):
                contents = _contents([folder, archive])
                write_archive(archive, contents)
                _delete_packed(store, folder, contents)
            yield archive, len(contents)


@contextmanager
def _alone(archive: Path) -> Iterator[None]:
    file = archive.with_name(f".{archive.name}.lock")
    try:
        lock = locks.take(file)
    except OSError as error:
        raise UserError(f"cannot lock {file}: {error.strerror or error}; {locks.advice(error)}") from error
    if not lock:
        raise UserError(f"{archive} is being packed by another process: wait for it")
    try:
        yield
    finally:
        locks.drop(file, lock)


def _contents(roots: list[Path]) -> Contents:
    """Return what the records say, without the failures of what has succeeded."""
    contents: Contents = {}
    for place in places(roots):
        try:
            content = read_content(place)
            record = from_json(content)
            check_place(place, record, content["id"])
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        contents[content["id"], record.kind] = content
    succeeded = {id for id, kind in contents if kind != Failure.kind}
    return {(id, kind): contents[id, kind] for id, kind in contents if kind != Failure.kind or id not in succeeded}


def _delete_packed(store: Store, folder: Path, contents: Contents) -> None:
    """Delete the files that say what their archive says, unless a process has claimed what they hold."""
    for file in result_files([folder]):
        with suppress(UserError):  # it is gone already
            content = read_content(file)
            with store.claim(content["id"]) as mine:
                packed = contents.get((content["id"], content.get("kind", Result.kind)))
                if mine and read_content(file) == packed:
                    file.unlink()
