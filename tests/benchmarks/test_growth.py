"""How seconds and memory grow with the number of records, and with the number of seeds of a sweep.

Run with ``pytest -m slow tests/benchmarks/test_growth.py``; ZIPEFT_MOST_RECORDS=100000 goes up to so many records. Each
figure is that of a process of its own: its CPU time, and its peak memory, both beyond those of the smallest one, which
are what the imports take. The exponent is that of a power law through the two largest: 1 is linear, 2 quadratic.
Records are of ten methods on one data set with 300 test examples, all in one folder or in one archive. Nothing is
asserted of time; tests/experiments/test_sweep_growth.py asserts what is counted.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from math import log
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST = int(os.environ.get("ZIPEFT_MOST_RECORDS", "10000"))
RECORDS = [number for number in (10, 1_000, 10_000, 100_000) if number <= MOST]
SEEDS = (3, 30, 300)
METHODS, EXAMPLES = 10, 300


def resume(folder: Path, size: int) -> None:
    """Look for every record of a finished sweep."""
    from support.bookkeeping import experiment, sweep

    report = sweep(folder, experiment(size // METHODS, METHODS, examples=EXAMPLES))
    assert len(report.results) == size
    assert not report.lost


def validate(folder: Path, size: int) -> None:
    from zipeft.commands.validate import main

    assert main([str(folder)]) == 0


def leaderboard(folder: Path, size: int) -> None:
    from zipeft.commands.leaderboard import main

    assert main([str(folder), "--out", f"{folder}-pages"]) == 0


def sweep_of_seeds(folder: Path, size: int) -> None:
    """Save what comes of a sweep in which nothing trains."""
    from support.bookkeeping import experiment, sweep

    assert len(sweep(folder, experiment(size)).results) == size


WORKS = {work.__name__: work for work in (resume, validate, leaderboard, sweep_of_seeds)}


def write(folder: Path, size: int, packed: bool) -> None:
    from support.bookkeeping import experiment, write_all

    write_all(folder, experiment(size // METHODS, METHODS, examples=EXAMPLES), packed)


def measured(work: str, folder: Path, size: int) -> tuple[float, float]:
    """Return the CPU seconds and the MB that a piece of work takes in a new process."""
    paths = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, work, str(folder), str(size)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def table(works: list[str], folders: dict[int, Path]) -> list[str]:
    """Return a line for each piece of work: what it takes beyond the smallest size, and its exponent."""
    lines = []
    for work in works:
        found = {size: measured(work, folder, size) for size, folder in folders.items()}
        smallest, *_, last_but_one, largest = folders
        beyond = {
            size: [max(1e-3, x - y) for x, y in zip(own, found[smallest], strict=True)] for size, own in found.items()
        }
        figures = ", ".join(f"{size:,}: {seconds:.1f} s, {mb:,.0f} MB" for size, (seconds, mb) in found.items())
        exponents = [
            log(x / y) / log(largest / last_but_one) for x, y in zip(beyond[largest], beyond[last_but_one], strict=True)
        ]
        lines.append(f"{work}: {figures}; exponents {exponents[0]:.2f} of seconds, {exponents[1]:.2f} of memory")
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True], ids=["files", "archive"])
def test_growth_with_records(tmp_path, capsys, packed):
    folders = {size: tmp_path / str(size) for size in RECORDS}
    for size, folder in folders.items():
        write(folder, size, packed)
    with capsys.disabled():
        print("", *table(["resume", "validate", "leaderboard"], folders), sep="\n")


@pytest.mark.slow
def test_growth_with_seeds(tmp_path, capsys):
    with capsys.disabled():
        print("", *table(["sweep_of_seeds"], {size: tmp_path / str(size) for size in SEEDS}), sep="\n")


if __name__ == "__main__":
    name, place, number = sys.argv[1:]
    WORKS[name](Path(place), int(number))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform == "linux" else 1 << 20)
    print(json.dumps([time.process_time(), peak]))
