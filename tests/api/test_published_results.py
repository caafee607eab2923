"""Published results in TOML files."""

from __future__ import annotations

import pytest

from zipeft import registry
from zipeft.api.published_results import read_published
from zipeft.api.task import PublishedTable

TABLE = """
[[table]]
title = "CUB (%)"
source = "A paper, Table 1"
columns = ["CUB", "mean"]

[table.rows]
"Full, by others" = " 87.3 8.50"
Linear = "85.3 85.3"
"""


def test_a_table_is_read_as_it_is_written(tmp_path):
    (tmp_path / "published.toml").write_text(TABLE, "utf-8")
    rows = {"Full, by others": ("87.3", "8.50"), "Linear": ("85.3", "85.3")}
    expected = PublishedTable("CUB (%)", "A paper, Table 1", ("CUB", "mean"), rows)
    (table,) = read_published(tmp_path / "published.toml")
    assert table == expected
    assert list(table.rows) == list(rows)


def test_a_row_of_another_length_is_refused(tmp_path):
    (tmp_path / "published.toml").write_text(TABLE.replace("85.3 85.3", "85.3"), "utf-8")
    with pytest.raises(ValueError, match="Linear has 1 values for 2 columns"):
        read_published(tmp_path / "published.toml")


def test_the_tables_of_the_tasks_are_installed():
    tables = {name: registry.tasks.get(name).published for name in ("fgvc", "vtab", "glue", "squad", "labelling")}
    assert all(table.rows for tables in tables.values() for table in tables)
