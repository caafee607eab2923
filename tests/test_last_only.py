"""What is kept alone, and made again when it is asked for after another."""

from __future__ import annotations

import pickle

import pytest

from zipeft.last_only import LastOnly


def test_only_the_last_value_is_kept_and_gone_before_the_next_is_made():
    made = []

    def make(key):
        made.append((key, holder._kept))
        return [key]

    holder = LastOnly(make)
    first = holder.get("a")
    assert holder.get("a") is first
    assert [holder.get(key) for key in "ba"] == [["b"], ["a"]]
    assert made == [("a", None), ("b", None), ("a", None)]
    holder.clear()
    holder.get("a")
    assert len(made) == 4


def test_what_cannot_be_made_is_not_kept():
    holder = LastOnly(int)
    with pytest.raises(ValueError, match="invalid literal"):
        holder.get("a")
    assert holder.get("1") == 1


def test_what_is_kept_is_not_pickled():
    holder = LastOnly(str)
    holder.get(1)
    other = pickle.loads(pickle.dumps(holder))  # noqa: S301, its own
    assert other._kept is None
    assert other.get(2) == "2"
