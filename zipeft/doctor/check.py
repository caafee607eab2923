"""One thing that was looked at, and the guard that no look raises or takes for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zipeft.errors import described

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True)
class Check:
    """What was found, and what to do about it ("" for nothing).

    ``status`` is "broken" where a run would fail, "note" where it works without what is missing.
    """

    name: str
    found: str
    status: Status = "ok"
    advice: str = ""


def looked_at(name: str, look: Callable[[], Check], seconds: float) -> Check:
    """Return what ``look`` returns, or that it failed or gave no answer in time; then it goes on in a thread."""
    done: list[Check] = []

    def run() -> None:
        try:
            done.append(look())
        except Exception as error:  # whatever a driver, a library or a network raises
            done.append(Check(name, described(error), "broken", "it is no fault of your input: see what it says"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if done:
        return done[0]
    return Check(name, f"no answer in {seconds:.0f} s", "broken", "a driver, a disk or a network hangs")
