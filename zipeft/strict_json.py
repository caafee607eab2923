"""JSON of files that anybody may have edited: whatever is wrong with it is a ``ValueError``."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

_number = lru_cache(maxsize=4096)(float)
"""Equal numbers are one object: files hold the scores of many examples, and most are 0.0 or 1.0."""


def parse(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ``ValueError`` also for one that nests deeper than Python calls may."""
    try:
        return json.loads(text, parse_float=_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
