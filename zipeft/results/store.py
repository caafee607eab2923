"""The store: one JSON file a record, written whole or not at all, and claims on what is being measured.

Files can be packed into archives, one for each data set; the store finds their records there, and writes none.
"""

from __future__ import annotations

import glob
import json
import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from zipeft import locks
from zipeft.errors import UserError
from zipeft.files import NotAFile, clear_leftovers, delete_leftovers, safe_name, write_atomically
from zipeft.results.archive import Heads, Line, archive_of, heads
from zipeft.results.listing import Listing, file_name
from zipeft.results.reading import Place, read_record, sharing
from zipeft.results.record import Failure, Record, Result, checked

R = TypeVar("R", bound=Record)

log = logging.getLogger(__name__)

CLAIMS = ".claims"
"""The folder of the locks of what is being measured."""

SHARDS = ".shards"
"""The suffix of the folder beside a checkpoint that has the parts of each process, where a training is sharded."""


@dataclass(frozen=True)
class Store:
    """The records under one folder, which need not exist yet. Many processes may use it at once.

    Each folder in it is listed once: to find a record, or to save one, takes as long however many there are.
    """

    root: Path
    _listings: dict[Path, Listing] = field(default_factory=dict, init=False, repr=False, compare=False)
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What records that were found have alike."""

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
        place = _place(record)
        listing = self._listing(type(record), *place)
        delete_leftovers(listing.leftovers(path))  # nobody else writes it, as the claim is held
        failed = file_name(record.method.name, record.kind, record.id)
        for file in (*listing.files(record.id), *self._listing(Failure, *place).files(record.id, failed)):
            if file != path:
                _delete(file)
        return path

    def find(self, kind: type[R], backbone: str, task: str, dataset: str, id: str, name: str = "") -> R | None:
        """Return the record with this id, or None if there is none yet.

        ``name`` is that of its file, as ``file_name`` makes it; without it, the data set's folder is listed anew.

        A file that does not hold what its name says counts as none, with a warning: what it should hold is to be
        measured again, and ``save`` then replaces it. Raises ``UserError`` for what is no file, such as a FIFO.
        """
        if not name:
            self._listings.pop(_folder(kind, backbone, task, dataset), None)
        for place in self._places(kind, backbone, task, dataset, id, name):
            try:
                record = read_record(place)
            except UserError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                if isinstance(error.__cause__, NotAFile):  # which ``save`` does not replace
                    raise UserError(f"{place} {error}: remove it") from error
                _pass_over(place, str(error))
                continue
            if isinstance(record, kind) and record.id == id:
                return sharing(record, self._shared)
            _pass_over(place, f"holds the {record.kind} {record.id}")
        return None

    def holds(self, record: Record) -> bool:
        """Return whether a record has its file, or its line in an archive; what that holds is not looked at."""
        places = self._places(type(record), *_place(record), record.id, self.path(record).name)
        return any(isinstance(place, Line) or place.exists() for place in places)

    def newest(self, kind: type[R], backbone: str, task: str, dataset: str, method: str, most: int) -> list[R]:
        """Return the newest records of a method, at most so many: those in files of their own, then those in the
        archive. What holds none is passed over in silence."""
        folder = self.root / _folder(kind, backbone, task, dataset)
        dated = []
        for file in folder.glob(f"{glob.escape(safe_name(method))}-*.json"):
            with suppress(OSError):
                dated.append((file.stat().st_mtime, file))
        packed = [head for head in self._heads(backbone, task, dataset).all(kind.kind) if head.method == method]
        packed.sort(key=lambda head: (head.created, head.line), reverse=True)
        places: list[Place] = [file for _, file in sorted(dated, reverse=True)]
        records = []
        for place in [*places, *(head.line for head in packed)][:most]:
            with suppress(UserError):
                records.append(read_record(place))
        return [record for record in records if isinstance(record, kind)]

    def _places(
        self, kind: type[Record], backbone: str, task: str, dataset: str, id: str, name: str
    ) -> Iterator[Place]:
        """Yield where a record may be kept: its own file, which need not be there, goes before a line of an archive."""
        yield from self._listing(kind, backbone, task, dataset).files(id, *([name] if name else []))
        yield from (head.line for head in self._heads(backbone, task, dataset).of(kind.kind, id))

    def _listing(self, kind: type[Record], backbone: str, task: str, dataset: str) -> Listing:
        folder = _folder(kind, backbone, task, dataset)
        if folder not in self._listings:
            self._listings[folder] = Listing(self.root / folder)
        return self._listings[folder]

    def _heads(self, backbone: str, task: str, dataset: str) -> Heads:
        """Return the lines in the archive of a data set, if it has one."""
        archive = archive_of(self.root / _folder(Result, backbone, task, dataset))
        try:
            return heads(archive)
        except FileNotFoundError:
            return Heads(())
        except NotAFile as error:
            raise UserError(f"{archive} cannot be read: {error.strerror}: remove it") from error
        except OSError as error:
            _pass_over(archive, f"cannot be read: {error.strerror}")
            return Heads(())

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

    def checkpoint(self, id: str) -> Path:
        """Return where what is being measured keeps what it needs to go on, for who has its claim."""
        return self.root / CLAIMS / f"{id}.checkpoint"

    def forget_checkpoint(self, id: str) -> None:
        """Delete a checkpoint that is not needed any more, and what a kill left beside it."""
        file = self.checkpoint(id)
        with suppress(OSError):  # it can wait for the next sweep
            file.unlink(missing_ok=True)
        clear_leftovers(file)
        shutil.rmtree(file.with_suffix(SHARDS), ignore_errors=True)

    def forget_checkpoints(self, done: Collection[str]) -> None:
        """Delete the checkpoints of what is on record: a process may have been killed between the two."""
        claims = self.root / CLAIMS
        for file in (*claims.glob("*.checkpoint"), *claims.glob(f"*{SHARDS}")):
            if file.stem in done:
                self.forget_checkpoint(file.stem)

    def forget_claims(self) -> None:
        """Delete the claims of processes that were killed; those that somebody holds stay."""
        for file in (self.root / CLAIMS).glob("*.lock"):
            with suppress(OSError):  # it can wait for the next sweep
                if lock := locks.take(file):
                    locks.drop(file, lock)


def _place(record: Record) -> tuple[str, str, str]:
    return record.backbone.name, record.task.name, record.task.dataset


def _folder(kind: type[Record], backbone: str, task: str, dataset: str) -> Path:
    return Path(f"{safe_name(backbone)}-{safe_name(task)}", safe_name(dataset), kind.folder)


def relative_path(record: Record, id: str) -> Path:
    """Return where a store keeps a record under the id that its file says: in an older schema it was another."""
    return _folder(type(record), *_place(record)) / file_name(record.method.name, record.which, id)


def archive_path(record: Record) -> Path:
    """Return where a store keeps the archive that a record is packed into."""
    return archive_of(_folder(Result, *_place(record)))


def check_place(place: Place, record: Record, id: str) -> None:
    """Raise ``UserError`` where a record, under the id that its file says, stands at another place than a store's."""
    if isinstance(place, Line):
        file, right = place.archive, archive_path(record)
    else:
        file, right = place, relative_path(record, id)
    if file.resolve().parts[-len(right.parts) :] != right.parts:
        raise UserError(f"its content belongs into {right.as_posix()}; move it there")


@cache  # who waits for a record looks for it again and again; one warning is enough
def _pass_over(place: Place, fault: str) -> None:
    log.warning("%s: %s; it counts as missing", place, fault)


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
