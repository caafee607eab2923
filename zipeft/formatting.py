"""Words for messages and pages."""

from __future__ import annotations

LONG = 200
"""Letters: what is longer than this in a message hides the rest of it."""


def shortened(text: object) -> str:
    """Return a name or a path for a message, without its middle where it is long."""
    text = str(text)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}...{text[-LONG // 2 :]}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 class", "1,000 classes"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
