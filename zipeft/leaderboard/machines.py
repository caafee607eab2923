"""Machines: scores of several stand together, times and memory of one are not compared with those of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from zipeft.formatting import counted
from zipeft.results import Result

Machine = tuple[str, str, int]
"""Device, CPU and cores."""


def machine(result: Result) -> Machine:
    """Return the hardware of a run."""
    return result.environment.device, result.environment.cpu, result.environment.cores


def on(used: Machine, results: Iterable[Result]) -> list[Result]:
    """Return the runs of a machine."""
    return [result for result in results if machine(result) == used]


def numbered(results: Iterable[Result]) -> dict[Machine, int]:
    """Return the machines of runs, numbered from 1: those with most runs first."""
    runs = Counter(map(machine, results))
    return {each: index for index, each in enumerate(sorted(runs, key=lambda each: (-runs[each], each)), start=1)}


def reference(results: Iterable[Result]) -> Machine | None:
    """Return the machine whose times and memory stand beside the scores; None where all runs are of one."""
    found = list(numbered(results))
    return found[0] if len(found) > 1 else None


def described(used: Machine) -> str:
    """Return a machine in words."""
    device, cpu, cores = used
    return f"{device}, {cpu}, {counted(cores, 'core')}"
