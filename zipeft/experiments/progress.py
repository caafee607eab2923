"""A sweep's progress bar on the terminal, with a line for every method that is done.

It stands for time: what takes long counts more than what does not, and what is done already takes none.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from zipeft.errors import ReaderGone
from zipeft.experiments.comparison import Run
from zipeft.experiments.earlier_times import remember
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.sweep import Study
from zipeft.experiments.time_left import TimeLeft
from zipeft.results import Failure, Record, Store

BAR = "{desc} {percentage:3.0f}%|{bar}| {trainings} trainings [{elapsed}<{left}]"

MOST = 0.99
"""What the bar shows at the most while anything is left."""

INTERVAL = 0.2
"""Seconds between two looks at the steps of a training, whose time is measured while it is looked at."""


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


class _Meter(tqdm):  # type: ignore[type-arg]  # generic for type checkers alone
    """A bar from 0 to 1 that also shows what ``said`` holds."""

    def __init__(self, said: dict[str, str], **options: Any) -> None:
        self.said = said  # the bar is drawn as soon as it is made
        super().__init__(total=1.0, bar_format=BAR, dynamic_ncols=True, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, **self.said}


class ProgressBar:
    """Shows how much of a sweep is done, and for how long it goes on: see ``TimeLeft``, which it tells what happens."""

    def __init__(
        self, experiments: Sequence[Experiment], store: Store, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._estimate, self._store, self._clock = TimeLeft(clock), store, clock
        self._unknown = set(experiments)
        for experiment in experiments:
            for kind in experiment.comparison.kinds():
                self._estimate.plan(kind, experiment.comparison.trainings)
        self._terminal = Terminal(sys.stderr)
        self._bar = _Meter(self._said(), file=self._terminal)
        self._running, self._steps, self._shown = "", 0, -math.inf

    def loading(self, dataset: str) -> None:
        self._bar.set_description_str(f"{dataset}: loading")

    def entered(self, study: Study) -> None:
        if study.experiment in self._unknown:  # its weights, which decide what is alike, are here now
            self._unknown.remove(study.experiment)
            remember(self._estimate, study.experiment, self._store)
        self._estimate.remain(study.kind, study.missing)
        self._show()

    def starting(self, study: Study, run: Run) -> None:
        self._running, self._steps = study.id(run), 0
        self._estimate.begin(self._running, study.kind)
        self._bar.set_description_str(str(run))
        self._show()

    def step(self, steps: int) -> None:
        """Move on by one of so many optimiser steps of the training that was started last."""
        self._steps += 1
        self._estimate.step(self._running, self._steps / steps)
        if self._clock() - self._shown > INTERVAL:
            self._show()

    def finished(self, study: Study, run: Run, record: Record) -> None:
        self._estimate.end(record.id, whole=not isinstance(record, Failure))
        self._show()
        if isinstance(record, Failure):
            self._bar.write(f"  {run} failed: {record.reason}", file=self._terminal)

    def ended(self, study: Study) -> None:
        self._estimate.remain(study.kind, 0)
        self._show()
        results = study.results()
        if not results:
            return
        mean = sum(result.score for result in results) / len(results)
        line = f"  {study.dataset:12} {study.contender.label:18} {100 * mean:5.1f} (test, mean of {len(results)})"
        self._bar.write(line, file=self._terminal)

    def skipped(self, experiment: Experiment, dataset: str) -> None:
        """Take out what cannot be done: no part of it is done."""
        for kind in experiment.comparison.kinds(dataset):
            self._estimate.drop(kind)
        self._bar.set_description_str(f"{dataset}: left out")
        self._show()

    def close(self) -> None:
        """Leave the bar as it is, if there is anything to show."""
        self._bar.leave = self._estimate.done > 0
        if self._estimate.done == self._estimate.trainings:
            self._bar.set_description_str("done", refresh=False)
        self._bar.close()

    def _show(self) -> None:
        self._shown = self._clock()
        share = self._estimate.share()
        if self._estimate.done < self._estimate.trainings:
            share = min(share, MOST)
        self._bar.said = self._said()
        self._bar.n = share
        self._bar.refresh()

    def _said(self) -> dict[str, str]:
        left = self._estimate.left()
        return {
            "trainings": f"{self._estimate.done}/{self._estimate.trainings}",
            "left": "?" if left is None else tqdm.format_interval(left),
        }
