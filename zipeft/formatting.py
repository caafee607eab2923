"""Numbers, lists and words as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

LONG = 200
"""Letters: what is longer than this in a message hides the rest of it."""


def shortened(text: object) -> str:
    """Return a name or a path for a message, without its middle where it is long."""
    text = str(text)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}...{text[-LONG // 2 :]}"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 class", "1,000 classes"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


LOWER_IS_BETTER = ("loss", "perplexity")
"""Scores that are better when they are lower, and no fractions."""

DASH = "\N{EN DASH}"
"""Between two ends of a range, and in place of a number that there is not."""


def span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Return the smallest and the largest value as 11.2K-32.0K, or one value where they look the same."""
    values = list(values)
    low, high = show(min(values)), show(max(values))
    unit = " " + high.partition(" ")[2]
    return low if low == high else f"{low.removesuffix(unit)}{DASH}{high}"


def percent(fraction: float) -> str:
    """Return a fraction as 69.0, in percent."""
    return f"{100 * fraction:.1f}"


def score_text(name: str, value: float) -> str:
    """Return a score as 69.0, in percent, or one that is no fraction as 1.234."""
    return f"{value:.3f}" if is_better_lower(name) else percent(value)


def is_better_lower(name: str) -> bool:
    """Whether a score is a loss or a perplexity, also one of test data from elsewhere: "unseen loss"."""
    return name.split()[-1] in LOWER_IS_BETTER


def significant(value: float) -> str:
    """Return a setting with at most three significant digits, as 0.0021 or 10."""
    return f"{value:.3g}"


def count(value: float) -> str:
    """Return a number of parameters as 930, 46.1K, 22.06M or 6.74B."""
    return _scaled(value, (("", 1, 0), ("K", 1e3, 1), ("M", 1e6, 2), ("B", 1e9, 2)))


def size(value: float) -> str:
    """Return a number of bytes as 930 B, 184 kB, 88.2 MB or 1.21 GB, in decimal units."""
    return _scaled(value, ((" B", 1, 0), (" kB", 1e3, 0), (" MB", 1e6, 1), (" GB", 1e9, 2)))


def duration(seconds: float) -> str:
    """Return a time as 4.2 ms, 68 ms, 0.4 s, 38 s, 2.1 min or 1.5 h."""
    for unit, scale, digits, below in (
        ("ms", 1e-3, 1, 9.95),
        ("ms", 1e-3, 0, 99.5),
        ("s", 1, 1, 9.95),
        ("s", 1, 0, 59.5),
        ("min", 60, 1, 59.95),
    ):
        if seconds / scale < below:
            return f"{seconds / scale:.{digits}f} {unit}"
    return f"{seconds / 3600:.1f} h"


def rate(value: float) -> str:
    """Return a number of examples a second as 8.4 or 1234."""
    return f"{value:.{1 if value < 99.95 else 0}f}"


def giga(value: float) -> str:
    """Return a number of operations in thousands of millions, as 0.74 or 17.58."""
    return f"{value / 1e9:.2f}"


def ratio(value: float) -> str:
    """Return a ratio as 0.4 or 12.0."""
    return f"{value:.1f}"


def _scaled(value: float, units: Sequence[tuple[str, float, int]]) -> str:
    """Return value in the first unit in which it is shown below 1000."""
    shown = [(f"{value / scale:.{digits}f}", unit) for unit, scale, digits in units]
    return "".join(next((pair for pair in shown if float(pair[0]) < 1000), shown[-1]))


def listing(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
