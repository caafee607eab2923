"""A sweep's progress bar on the terminal, with a line for every method that is done."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from tqdm import tqdm

from zipeft.errors import ReaderGone
from zipeft.experiment import Run
from zipeft.results import Failure, Record
from zipeft.sweep import Entry

BAR = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} trainings [{elapsed}<{remaining}]"


class Terminal:
    """A stream, most often stderr, on which no measurement depends.

    Where it cannot be written (its disk is full, say), it is silent from then on. Raises ``ReaderGone``.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._silent = stream is None

    def write(self, text: str) -> None:
        self._do("write", text)

    def flush(self) -> None:
        self._do("flush")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _do(self, action: str, *arguments: str) -> None:
        if self._silent:
            return
        try:
            getattr(self._stream, action)(*arguments)
        except BrokenPipeError:
            self._silent = True
            raise ReaderGone from None
        except OSError:
            self._silent = True


class Bar:
    """Counts trainings, trials and runs alike; each optimiser step moves it on."""

    def __init__(self, total: int) -> None:
        self._terminal = Terminal(sys.stderr)
        self._bar = tqdm(total=total, bar_format=BAR, dynamic_ncols=True, file=self._terminal)
        self._whole = 0.0

    def loading(self, dataset: str) -> None:
        self._bar.set_description_str(f"{dataset}: loading")

    def starting(self, run: Run) -> None:
        self._bar.set_description_str(str(run))

    def step(self, steps: int) -> None:
        """Move on by one of so many optimiser steps of a training."""
        self._bar.update(min(1 / steps, self._whole + 1 - self._bar.n))  # no sum of fractions is above the whole

    def finished(self, run: Run, record: Record) -> None:
        self.skipped(1)
        if isinstance(record, Failure):
            self._bar.write(f"  {run} failed: {record.reason}", file=self._terminal)

    def entered(self, entry: Entry) -> None:
        self.skipped(len(entry.records))

    def skipped(self, count: int) -> None:
        """Move on by trainings that need none, or none any more."""
        self._whole += count
        self._bar.update(self._whole - self._bar.n)

    def ended(self, entry: Entry) -> None:
        results = entry.results()
        if not results:
            return
        mean = sum(result.score for result in results) / len(results)
        line = f"  {entry.dataset:12} {entry.contender.name:18} {100 * mean:5.1f} (test, mean of {len(results)})"
        self._bar.write(line, file=self._terminal)

    def close(self) -> None:
        self._bar.close()
