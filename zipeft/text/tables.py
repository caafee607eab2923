"""Reading texts and labels from tables: TSV, CSV, JSON, JSON lines and parquet, by the names of their columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from zipeft import strict_json
from zipeft.errors import UserError, did_you_mean, one_line
from zipeft.files import open_file, open_text, read_text
from zipeft.sources.git_lfs import check_fetched

SUFFIXES = ("tsv", "csv", "json", "jsonl", "parquet")

LONGEST_FIELD = 2**31 - 1
"""Characters: the most that ``csv`` takes on every system. Its own limit, 131,072, is below what texts may have."""

Columns = Sequence[Sequence[str]]
"""For each value that is wanted of a row, the names that its column may have, in lower case, the best first."""


@dataclass
class Table:
    """Rows of a file: for each its number (of the line or the row, from 1) and the values of the columns asked for.

    ``left_out`` counts lines with a wrong number of columns that were passed over.
    """

    path: Path
    unit: str
    rows: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)
    left_out: int = 0

    def place(self, number: int) -> str:
        """Return where a row stands, for messages: "/data/rte/train.tsv, line 7"."""
        return f"{self.path}, {self.unit} {number}"


# --- finding files ----------------------------------------------------------------------------------------------------


def find_split(folder: Path, stems: Sequence[str]) -> list[Path]:
    """Return the file of a split, or all files of one in several parts; none if there is none.

    Its name is one of ``stems`` and one of ``SUFFIXES``, perhaps with the number of its part between them, as the
    ``datasets`` library has it: "train.tsv", "train-00000-of-00002.parquet". Raises ``UserError`` if there are two, or
    if a part is missing.
    """
    names = "|".join(map(re.escape, stems))
    pattern = re.compile(rf"({names})(?:-(\d+)-of-(\d+))?\.({'|'.join(SUFFIXES)})", re.IGNORECASE)
    found: dict[tuple[str, ...], dict[int, Path]] = {}
    for path in sorted(entry for entry in _entries(folder) if entry.is_file()):
        if match := pattern.fullmatch(path.name):
            stem, part, total, suffix = match.groups(default="0")
            found.setdefault((stem, total, suffix), {})[int(part)] = path
    if len(found) > 1:
        one, other = (min(parts.values()).name for parts in list(found.values())[:2])
        raise UserError(f"{folder} has both {one} and {other}: keep one of them")
    for (_, total, _), parts in found.items():
        if missing := set(range(int(total))) - parts.keys():
            raise UserError(f"{folder} lacks part {min(missing)} of {int(total)} of {min(parts.values()).name}: add it")
        return [parts[part] for part in sorted(parts)]
    return []


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from None


# --- reading them -----------------------------------------------------------------------------------------------------


def read_table(
    path: Path,
    columns: Columns,
    *,
    optional: Columns = (),
    bare: Sequence[str] = (),
    leave_out_cut: bool = False,
) -> Table:
    """Read the ``columns`` of a file; the format is that of its suffix, and ".txt" is read as TSV.

    The values of ``optional`` columns follow in each row, None for one that is missing.

    TSV has no quotes: a quotation mark is a part of the text, as in GLUE's files. ``bare`` names the columns of a TSV
    without a header. With ``leave_out_cut``, lines with a wrong number of columns are left out. A whole number that the
    ``datasets`` library wrote to parquet as a class is given as the name of the class.

    Raises ``UserError`` that names the file and the line: bytes that are no UTF-8, a missing column, a wrong number of
    columns, what the format does not allow, no rows.
    """
    reader = {".json": _read_json, ".jsonl": _read_json, ".parquet": _read_parquet}.get(path.suffix.lower())
    try:
        check_fetched(path)
        if reader:
            table = reader(path, columns, optional)
        else:
            table = _read_separated(path, columns, optional, bare, leave_out_cut)
    except UnicodeDecodeError:
        raise UserError(f"{path}, line {_line_that_is_no_text(path)} is not UTF-8: convert the file") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not table.rows:
        raise UserError(f"{path} has no rows: give a file that has some")
    return table


def _read_separated(path: Path, columns: Columns, optional: Columns, bare: Sequence[str], leave_out_cut: bool) -> Table:
    is_csv = path.suffix.lower() == ".csv"
    dialect: dict[str, Any] = {} if is_csv else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    table = Table(path, "line")
    csv.field_size_limit(LONGEST_FIELD)
    with open_text(path, newline="" if is_csv else None) as file:
        reader = csv.reader(file, **dialect)
        lines = _lines(path, reader)
        first = next(lines, [])
        header = [name.strip().lower() for name in first]
        if bare and len(first) == len(bare) and not all(set(names) & set(header) for names in columns):
            header, lines = list(bare), chain([first], lines)
        names = _names(path, header, columns, optional) if first else []
        wanted = [None if name is None else header.index(name) for name in names]
        for cells in lines:
            if len(cells) == len(header):
                table.rows.append((reader.line_num, tuple(None if at is None else cells[at] for at in wanted)))
            elif leave_out_cut:
                table.left_out += 1
            else:
                number = f"{len(cells)} column{'s' * (len(cells) != 1)}"
                raise UserError(f"{table.place(reader.line_num)} has {number}, not {len(header)}: repair the line")
    return table


def _lines(path: Path, reader: Any) -> Iterator[list[str]]:
    """Yield the cells of each line of a ``csv.reader`` that is not blank."""
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num} cannot be read ({error}): repair it") from None


def _read_json(path: Path, columns: Columns, optional: Columns) -> Table:
    text = read_text(path)
    if text.lstrip().startswith("["):
        table, records = Table(path, "row"), _parsed(str(path), text)
        numbered = list(enumerate(records, 1))
    else:  # one object a line, which the datasets library writes to files that end in .json, too
        table = Table(path, "line")
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        numbered = [(number, _parsed(table.place(number), line)) for number, line in lines]
    for number, record in numbered:
        if not isinstance(record, Mapping):
            raise UserError(f"{table.place(number)} is not a JSON object: give one a {table.unit}")
        record = {name.lower(): value for name, value in record.items()}
        names = _names(table.place(number), list(record), columns, optional)
        table.rows.append((number, tuple(None if name is None else record[name] for name in names)))
    return table


def _parsed(place: str, text: str) -> Any:
    try:
        return strict_json.parse(text)
    except ValueError as error:
        raise UserError(f"{place} is not valid JSON ({error}): repair it") from None


def _read_parquet(path: Path, columns: Columns, optional: Columns) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        with open_file(path) as opened, parquet.ParquetFile(opened) as file:
            schema = file.schema_arrow
            spelt = {name.lower(): name for name in schema.names}
            names = [name and spelt[name] for name in _names(path, list(spelt), columns, optional)]
            content = file.read(columns=[name for name in names if name])
    except pyarrow.ArrowException as error:
        raise UserError(f"{path} cannot be read as parquet ({one_line(error)}): get the file again") from None
    classes = _class_names(schema.metadata or {})

    def column(name: str | None) -> list[Any]:
        if name is None:
            return [None] * len(content)
        return [_named(value, classes.get(name)) for value in content.column(name).to_pylist()]

    values = [column(name) for name in names]
    return Table(path, "row", list(enumerate(zip(*values, strict=True), 1)))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Return the classes of each column that the ``datasets`` library wrote as a ``ClassLabel``, in their order."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):  # written by something else
        return {}


def _named(value: Any, classes: list[str] | None) -> Any:
    return classes[value] if classes and isinstance(value, int) and 0 <= value < len(classes) else value


def _names(place: Path | str, there: Sequence[str], columns: Columns, optional: Columns) -> list[str | None]:
    """Return which of its names each wanted column has; None for an ``optional`` one that is missing.

    Raises ``UserError`` for another one that is missing.
    """
    found: list[str | None] = []
    for names in columns:
        present = [name for name in names if name in there]
        if not present:
            hint = did_you_mean(names[0], there)
            raise UserError(f"{place} has no column {' or '.join(names)}{hint} (there: {', '.join(there)})")
        found.append(present[0])
    return [*found, *(next((name for name in names if name in there), None) for names in optional)]


# --- values -----------------------------------------------------------------------------------------------------------


def as_text(value: Any, place: str) -> str:
    """Return a text. Raises ``UserError`` for anything else."""
    if not isinstance(value, str):
        raise UserError(f"{place} has {value!r} for a text: give a string")
    return value


def as_class(value: Any, classes: Sequence[str], place: str) -> int:
    """Return the index of a class that is given by its index or its name, whatever the case and separators.

    Raises ``UserError`` for no label ("", null, "-", -1), and for one that is not among the classes.
    """
    text = str(value).strip()
    if value is None or text in ("", "-", "-1"):
        raise UserError(f"{place} has no label ({value!r}): leave such rows out, or give the labelled file")
    index = _indices(tuple(classes)).get(_plain(text))
    if index is None or isinstance(value, bool):
        numbers = f"0 to {len(classes) - 1}"
        raise UserError(f"{place} has the label {value!r}: give {', '.join(classes)}, or their numbers, {numbers}")
    return index


def as_score(value: Any, low: float, high: float, place: str) -> float:
    """Return a score. Raises ``UserError`` for no number, and for one outside ``low`` to ``high``."""
    try:
        score = float(value)
    except (ValueError, TypeError):
        score = float("nan")
    if not low <= score <= high or isinstance(value, bool):
        raise UserError(f"{place} has the score {value!r}: give a number from {low:g} to {high:g}")
    return score


@lru_cache
def _indices(classes: tuple[str, ...]) -> dict[str, int]:
    """Return the index of each class by all that may stand for it."""
    numbers = {form: index for index in range(len(classes)) for form in (str(index), f"{index}.0")}
    return numbers | {_plain(name): index for index, name in enumerate(classes)}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.lower())


# --- messages ---------------------------------------------------------------------------------------------------------


def _line_that_is_no_text(path: Path) -> int:
    with open_file(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError(f"{path} is UTF-8 after all")


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read ({error.strerror or one_line(error)}): check it and its permissions")
