"""The store: one JSON file a record, written whole or not at all, and claims on what is being measured."""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from zipeft import locks, strict_json
from zipeft.errors import UserError, one_line
from zipeft.files import NotAFile, clear_leftovers, read_whole, safe_name, write_atomically
from zipeft.results.record import Failure, Record, Result, Trial, checked, from_json

R = TypeVar("R", bound=Record)

log = logging.getLogger(__name__)

FOLDERS: dict[type[Record], str] = {Result: "", Trial: "trials", Failure: "failures"}
"""Where a data set's folder keeps each kind."""

CLAIMS = ".claims"
"""The folder of the locks of what is being measured."""


@dataclass(frozen=True)
class Store:
    """The records under one folder, which need not exist yet. Many processes may use it at once."""

    root: Path

    def path(self, record: Record) -> Path:
        """Return where a record is kept."""
        return self.root / relative_path(record, record.id)

    def save(self, record: Record) -> Path:
        """Write a record and return its path. Raises ``UserError`` if it would not read back, ``CannotWrite``
        if it cannot be written.

        What it supersedes is deleted: a file of the same id under another name, and the failure of what now succeeded.
        """
        record = checked(record)
        path = self.path(record)
        # One line a field: short enough to read, and a change shows in a diff where it is.
        fields = record.to_json().items()
        lines = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in fields]
        write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        clear_leftovers(path)  # nobody else writes it, as the claim is held
        for kind in {type(record), Failure}:
            for file in _of_id(self.root / _folder(kind, *_place(record)), record.id):
                if file != path:
                    _delete(file)
        return path

    def find(self, kind: type[R], backbone: str, task: str, dataset: str, id: str) -> R | None:
        """Return the record with this id, or None if there is none yet.

        A file that does not hold what its name says counts as none, with a warning: what it should hold is to be
        measured again, and ``save`` then replaces it. Raises ``UserError`` for what is no file, such as a FIFO.
        """
        for file in _of_id(self.root / _folder(kind, backbone, task, dataset), id):
            try:
                record = from_json(read_json(file))
            except UserError as error:
                if isinstance(error.__cause__, NotAFile):  # which ``save`` does not replace
                    raise UserError(f"{file} {error}: remove it") from error
                _pass_over(file, str(error))
                continue
            if isinstance(record, kind) and record.id == id:
                return record
            _pass_over(file, f"holds the {record.kind} {record.id}")
        return None

    def holds(self, record: Record) -> bool:
        """Return whether a record has its file; what that holds is not looked at."""
        return bool(_of_id(self.root / _folder(type(record), *_place(record)), record.id))

    def newest(self, kind: type[R], backbone: str, task: str, dataset: str, method: str, most: int) -> list[R]:
        """Return the newest records of a method, at most so many. Files that hold none are passed over in silence."""
        folder = self.root / _folder(kind, backbone, task, dataset)
        dated = []
        for file in folder.glob(f"{glob.escape(safe_name(method))}-*.json"):
            with suppress(OSError):
                dated.append((file.stat().st_mtime, file))
        records = []
        for _, file in sorted(dated, reverse=True)[:most]:
            with suppress(UserError):
                records.append(from_json(read_json(file)))
        return [record for record in records if isinstance(record, kind)]

    @contextmanager
    def claim(self, id: str) -> Iterator[bool]:
        """Yield whether this process now has the sole right to measure what has this id; it never waits.

        The right ends with the context or with the process, however that ends. Who gets it looks for a record first:
        one may have been saved just before. Raises ``UserError`` where no lock can be made.
        """
        file = self.root / CLAIMS / f"{id}.lock"
        try:
            lock = locks.take(file)
        except OSError as error:
            raise UserError(f"cannot lock {file}: {error.strerror or error}; {locks.advice(error)}") from error
        if not lock:
            yield False
            return
        try:
            yield True
        finally:
            # A process that opened the file just before it is deleted can still lock it, while another locks a new file
            # of this name. But both come after the work under this claim, and find the record that it left. If it left
            # none, both measure, and the later one replaces the same file.
            locks.drop(file, lock)

    def forget_claims(self) -> None:
        """Delete the claims of processes that were killed; those that somebody holds stay."""
        for file in (self.root / CLAIMS).glob("*.lock"):
            with suppress(OSError):  # it can wait for the next sweep
                if lock := locks.take(file):
                    locks.drop(file, lock)


def _place(record: Record) -> tuple[str, str, str]:
    return record.backbone.name, record.task.name, record.task.dataset


def _folder(kind: type[Record], backbone: str, task: str, dataset: str) -> Path:
    return Path(f"{safe_name(backbone)}-{safe_name(task)}", safe_name(dataset), FOLDERS[kind])


def relative_path(record: Record, id: str) -> Path:
    """Return where a store keeps a record under the id that its file says: in an older schema it was another."""
    which = {Result: "seed{0.seed}", Trial: "trial{0.index}", Failure: "{0.of}"}[type(record)].format(record)
    return _folder(type(record), *_place(record)) / f"{safe_name(record.method.name)}-{which}-{id}.json"


def _of_id(folder: Path, id: str) -> list[Path]:
    return sorted(folder.glob(f"*-{id}.json"))


@cache  # who waits for a record looks for it again and again; one warning is enough
def _pass_over(file: Path, fault: str) -> None:
    log.warning("%s: %s; it counts as missing", file, fault)


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot delete %s, which is superseded: %s", file, error.strerror)


def save_result(root: Path, result: Result) -> Path:
    """Write a result under ``root`` and return its path. Raises ``UserError`` as ``Store.save`` does."""
    return Store(Path(root)).save(result)


def result_path(root: Path, result: Result) -> Path:
    """Return where a result is kept under ``root``."""
    return Store(Path(root)).path(result)


def read_json(path: Path) -> Any:
    """Return the JSON of a file. Raises ``UserError`` that says what is wrong, without the file's name."""
    try:
        return strict_json.parse(read_whole(path))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"not a JSON file ({one_line(error)}); delete it and run again") from error


def read_records(roots: Iterable[Path]) -> tuple[dict[Path, Record], dict[Path, str]]:
    """Return the records of files and folders by path, in the order of the paths, and what is wrong with other files.

    Takes all that ``json_files`` returns. Raises ``UserError`` for a folder that cannot be read.
    """
    records: dict[Path, Record] = {}
    faults: dict[Path, str] = {}
    for file in json_files(roots):
        try:
            records[file] = from_json(read_json(file))
        except UserError as error:
            faults[file] = str(error)
    return records, faults


def read_results(roots: Iterable[Path]) -> dict[Path, Result]:
    """Return the runs among ``read_records``, with a warning for each file that is no valid record."""
    records, faults = read_records(roots)
    for file, fault in faults.items():
        log.warning("%s: %s; it is left out (see zipeft validate)", file, fault)
    return {file: record for file, record in records.items() if isinstance(record, Result)}


def json_files(roots: Iterable[Path]) -> list[Path]:
    """Return, each once and sorted, the files among ``roots`` and the JSON files in the folders among them.

    Folders are searched to any depth, hidden files and folders and JSON schemas left out. What does not exist has no
    files. Raises ``UserError`` for a folder that cannot be read.
    """
    files = {file.resolve(): file for root in roots for file in _files_of(Path(root))}
    return sorted(files.values())


def _files_of(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield from [root] if root.exists() else []
        return
    # Not Path.rglob, which passes over a folder that cannot be read as if it were empty.
    for folder, folders, names in os.walk(root, onerror=_cannot_read):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(".json") and not name.startswith(".") and not name.endswith(".schema.json"):
                yield Path(folder, name)


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
