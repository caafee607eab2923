"""Reading results: the records in files, folders and archives, and what is wrong with those that are none."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from zipeft import strict_json
from zipeft.errors import UserError, one_line
from zipeft.files import read_whole
from zipeft.results import archive
from zipeft.results.archive import Line
from zipeft.results.record import KINDS, Failure, Record, Result, from_json

R = TypeVar("R", bound=Record)

log = logging.getLogger(__name__)

EXAMPLES_SUFFIX = ".examples.json"
"""How the names of files end that lie among results and hold what pages show of a data set."""

NOT_RECORDS = (".schema.json", EXAMPLES_SUFFIX)

Place = Path | Line
"""Where one record is: a file of its own, or a line of an archive."""


def read_content(place: Place) -> Any:
    """Return the JSON of a record. Raises ``UserError`` that says what is wrong, without the place."""
    try:
        return archive.read_line(place) if isinstance(place, Line) else strict_json.parse(read_whole(place))
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"not a JSON file ({one_line(error)}); delete it and run again") from error


def read_record(place: Place) -> Record:
    """Return the checked record of a place. Raises ``UserError`` as ``read_content`` and ``from_json`` do."""
    return from_json(read_content(place))


def read_records(roots: Iterable[Path]) -> tuple[dict[Place, Record], dict[Place, str]]:
    """Return the records of files and folders, and what is wrong with other places, in the order of ``places``.

    Raises ``UserError`` for a folder that cannot be read.
    """
    records: dict[Place, Record] = {}
    faults: dict[Place, str] = {}
    shared: dict[str, Any] = {}
    for place in places(roots):
        try:
            records[place] = sharing(read_record(place), shared)
        except UserError as error:
            faults[place] = str(error)
    return records, faults


SHARED = ("backbone", "task", "method", "protocol", "environment", "targets")
"""What many records have alike."""


def sharing(record: R, known: dict[str, Any]) -> R:
    """Return a record in which parts that an earlier one had are that one's: thousands of records are held at once."""
    parts = {name: getattr(record, name) for name in SHARED if hasattr(record, name)}
    return replace(record, **{name: known.setdefault(repr(part), part) for name, part in parts.items()})


def read_results(roots: Iterable[Path]) -> dict[Place, Result]:
    """Return the runs among ``read_records``, with a warning for each place that holds no valid record."""
    records, faults = read_records(roots)
    for place, fault in faults.items():
        log.warning("%s: %s; it is left out (see zipeft validate)", place, fault)
    return {place: record for place, record in records.items() if isinstance(record, Result)}


def places(roots: Iterable[Path]) -> list[Place]:
    """Return the places of records among files and folders, each once, in the order of their paths and lines.

    These are all files of ``result_files``; of archives, all lines but those in whose place a file stands. An archive
    that cannot be read is a place itself. Raises ``UserError`` for a folder that cannot be read.
    """
    files = result_files(roots)
    ids: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        ids[file.parent].add(file.stem.rpartition("-")[2])
    found: list[Place] = []
    for file, given in sorted(files.items(), key=lambda item: item[1]):
        if file.suffix != archive.SUFFIX:
            found.append(given)
            continue
        try:
            heads = archive.heads(given)
        except OSError:
            found.append(given)
            continue
        folder = archive.folder_of(file)
        beside = {name: ids[folder / kind.folder] for name, kind in KINDS.items()}
        beside[Failure.kind] = set().union(*beside.values())  # what succeeded since, too
        found += [head.line for head in heads if head.id not in beside.get(head.kind, ())]
    return found


def result_files(roots: Iterable[Path]) -> dict[Path, Path]:
    """Return the files among ``roots``, and the JSON files and archives in the folders among them, as they are called
    from there by where they are: each is there once.

    Folders are searched to any depth, hidden files and folders, schemas and examples left out. What does not exist has
    no files. Raises ``UserError`` for a folder that cannot be read.
    """
    return {file.resolve(): file for root in roots for file in _files_of(Path(root))}


def _files_of(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        yield from [root] if root.exists() else []
        return
    # Not Path.rglob, which passes over a folder that cannot be read as if it were empty.
    for folder, folders, names in os.walk(root, onerror=_cannot_read):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith((".json", archive.SUFFIX)) and not (name.startswith(".") or name.endswith(NOT_RECORDS)):
                yield Path(folder, name)


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
