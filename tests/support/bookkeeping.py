"""Sweeps in which nothing trains: all that is left is the bookkeeping of ids, files and claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from support import experiments
from support.result_factory import make_result, make_trial
from zipeft.api.search import Range
from zipeft.experiments.comparison import Contender, Run
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.sweep import ResumePolicy, Study, Sweep, SweepReport
from zipeft.methods.linear import Linear
from zipeft.results import Record, Store, Trial

SPACE = {"learning_rate": Range(1e-4, 1e-2)}


def experiment(seeds: int, methods: int = 1, trials: int = 0) -> Experiment:
    """Return a comparison of ``methods`` that differ in their names."""
    contenders = tuple(Contender(f"method{index}", Linear(), SPACE if trials else {}) for index in range(methods))
    return experiments.experiment(contenders=contenders, seeds=tuple(range(seeds)), trials=trials)


def record_of(experiment: Experiment, run: Run) -> Record:
    """Return what a run might have given."""
    identity = experiment.describer.identity(run)
    items = identity["task"].sizes.test
    score = 0.25 + run.seed % 7 / 16
    if run.kind is Trial:
        return dataclasses.replace(make_trial(index=run.trial, score=score), **identity)
    return dataclasses.replace(make_result(score=score, items=items, search=run.tried), **identity)


class Invented:
    """Gives every run a record at once."""

    def __init__(self) -> None:
        self.done: list[tuple[Run, Record]] = []

    def has_capacity(self) -> bool:
        return not self.done

    def submit(self, experiment: Experiment, run: Run) -> None:
        self.done.append((run, record_of(experiment, run)))

    def wait(self) -> list[tuple[Run, Record]]:
        done, self.done = self.done, []
        return done

    def shutdown(self) -> None:
        pass


class Untold:
    """Shows no progress."""

    def __getattr__(self, name: str):
        return lambda *_: None


def sweep(folder: Path, *experiments: Experiment) -> SweepReport:
    return Sweep(Store(folder), Invented(), ResumePolicy(), Untold()).go(experiments)


def runs_of(experiment: Experiment) -> Iterable[Run]:
    """Return the runs of a comparison without a search."""
    for dataset in experiment.comparison.datasets():
        for contender in experiment.comparison.contenders:
            yield from Study(experiment, dataset, contender).runs()
