"""Columns that a table need not have."""

from __future__ import annotations

import json

import pyarrow
import pytest
from pyarrow import parquet

from zipeft.errors import UserError
from zipeft.text.tables import read_table

ROWS = [{"text": "one", "id": "7", "more": "x"}, {"text": "two", "id": "8", "more": "y"}]


def write(path, rows):
    """Write a table, in the format of the path's suffix."""
    match path.suffix:
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case suffix:
            separator = "," if suffix == ".csv" else "\t"
            path.write_text("".join(separator.join(line) + "\n" for line in [rows[0], *(row.values() for row in rows)]))
    return path


@pytest.mark.parametrize("suffix", ["tsv", "csv", "json", "jsonl", "parquet"])
def test_an_optional_column_that_is_missing_gives_none(suffix, tmp_path):
    path = write(tmp_path / f"x.{suffix}", ROWS)
    table = read_table(path, [["text"]], optional=[["category"], ["number", "id"]])
    assert [values for _, values in table.rows] == [("one", None, "7"), ("two", None, "8")]
    with pytest.raises(UserError, match=r"has no column category \(there: text, id, more\)"):
        read_table(path, [["text"], ["category"]])


def test_objects_may_differ_in_their_optional_columns(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": "one"}, {"text": "two", "id": "8"}])
    assert [values for _, values in read_table(path, [["text"]], optional=[["id"]]).rows] == [
        ("one", None),
        ("two", "8"),
    ]
