"""Time by the clock on the wall, and the time that the CPUs worked for this process meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Seconds: ``wall`` by the clock, ``cpu`` of all threads, and of the processes that were started and have ended."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


NOTHING = Spent()


def now() -> Spent:
    """Return the present time: a difference of two is what was spent between them."""
    times = os.times()  # of this process itself it counts in hundredths of a second
    return Spent(time.perf_counter(), time.process_time() + times.children_user + times.children_system)
