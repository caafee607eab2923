"""Sequences whose items are made when they are asked for."""

from __future__ import annotations

from zipeft.images.lazy import Lazy


def test_items_are_made_when_they_are_asked_for_and_slices_are_as_lazy():
    made = []

    def make(key):
        made.append(key)
        return key.upper()

    items = Lazy(make, "abcdef")
    part = items[1:5:2]
    assert (len(items), len(part), made) == (6, 2, [])
    assert [part[1], items[-1]] == ["D", "F"]
    assert made == ["d", "f"]
    assert list(part) == ["B", "D"]
