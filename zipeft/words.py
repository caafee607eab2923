"""Words for messages and pages."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 class", "1,000 classes"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
