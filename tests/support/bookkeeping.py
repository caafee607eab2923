"""Sweeps in which nothing trains: all that is left is the bookkeeping of ids, files and claims."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from support import experiments
from support.result_factory import make_result, make_trial
from support.toys import ToyTask
from zipeft.api.search import Range
from zipeft.experiments.comparison import Contender, Run
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.sweep import ResumePolicy, Study, Sweep, SweepReport
from zipeft.methods.linear import Linear
from zipeft.results import Record, Store, Trial
from zipeft.results.archive import archive_of
from zipeft.results.identity import file_hash
from zipeft.results.listing import file_name

SPACE = {"learning_rate": Range(1e-4, 1e-2)}


def experiment(seeds: int, methods: int = 1, trials: int = 0, examples: int = 12) -> Experiment:
    """Return a comparison of ``methods`` that differ in their names, on test data of so many examples."""
    contenders = tuple(Contender(f"method{index}", Linear(), SPACE if trials else {}) for index in range(methods))
    task = ToyTask(examples=examples)
    return experiments.experiment(task=task, contenders=contenders, seeds=tuple(range(seeds)), trials=trials)


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


def write_all(folder: Path, experiment: Experiment, packed: bool = False) -> None:
    """Write the record of every run of a comparison without a search, in a file each or into an archive."""
    (dataset,) = experiment.comparison.datasets()
    lines = {}
    for contender in experiment.comparison.contenders:
        runs = Study(experiment, dataset, contender).runs()
        record = record_of(experiment, runs[0])
        content, place = record.to_json(), Store(folder).path(record).parent
        place.mkdir(parents=True, exist_ok=True)
        for run in runs:
            right = [(index * 7 + run.seed) % 10 < 6 for index in range(len(content["targets"]))]
            scores = {"accuracy": sum(right) / len(right)}
            content |= {"seed": run.seed, "id": experiment.id(run), "test": scores, "item_scores": [*map(float, right)]}
            content["sha256"] = file_hash(content)
            if packed:
                lines[content["id"]] = json.dumps(content)
            else:
                (place / file_name(contender.name, run.which, content["id"])).write_text(json.dumps(content))
    if packed:
        archive_of(place).write_text("".join(lines[id] + "\n" for id in sorted(lines)))
