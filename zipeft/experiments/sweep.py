"""A sweep: every training of a plan is done once, whoever does it and however often it is interrupted.

What is done stands in the result store; what is being done is claimed there, by a lock that dies with its process. So
the same command goes on where it was cut off, and several processes can share the work.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zipeft.api.learner import Learner
from zipeft.api.search import best
from zipeft.errors import CannotWrite, UserError, described, one_line
from zipeft.experiments.comparison import Contender, Run
from zipeft.experiments.experiment import Experiment
from zipeft.results import Failure, Record, Result, Store, Trial, Tried
from zipeft.results.listing import file_name

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at whether other processes have finished what this one waits for."""


@dataclass(frozen=True)
class ResumePolicy:
    """What counts as done already. ``redo`` takes nothing from the store; ``retry_failed`` takes no failure;
    ``is_kept`` says whether what a run learnt is where it shall be kept."""

    redo: bool = False
    retry_failed: bool = False
    is_kept: Callable[[Experiment, Run], bool] = lambda experiment, run: True


class Study:
    """One contender on one data set: the trials of its search, then its runs with the setting that they chose."""

    def __init__(self, experiment: Experiment, dataset: str, contender: Contender) -> None:
        self.experiment, self.dataset, self.contender = experiment, dataset, contender
        self.protocol, self.seeds = experiment.comparison.protocol, experiment.comparison.seeds
        self.records: dict[str, Record] = {}
        self.trials = [
            Run(dataset, candidate, self.protocol.search_seed, trial=index)
            for index, candidate in enumerate(self._candidates())
        ]
        self._ids: dict[tuple[int | None, int], str] = {}
        self._runs: list[Run] | None = None
        self.open = self._named(self.trials or self.runs())
        """By their ids, trainings that have no record yet and need nothing that has none."""

    def _candidates(self) -> list[Contender]:
        """Return what is tried: settings drawn from the contender's space, or, where trials are all there is and it has
        no space, the contender itself."""
        return self.contender.candidates(self.protocol) or ([] if self.seeds else [self.contender])

    def id(self, run: Run) -> str:
        """Return the id of the record of a trial or run."""
        key = run.trial, run.seed
        if key not in self._ids:
            self._ids[key] = self.experiment.id(run)
        return self._ids[key]

    def runs(self) -> list[Run]:
        """Return the runs, a seed each, with the setting chosen; none while trials are missing or if all failed."""
        if self._runs is None:
            if any(self.record(trial) is None for trial in self.trials):
                return []
            self._runs = self._chosen()
        return self._runs

    def _chosen(self) -> list[Run]:
        if not self.trials:
            return [Run(self.dataset, self.contender, seed) for seed in self.seeds]
        tried = tuple(map(self._summary, self.trials))
        chosen = best([trial.validation for trial in tried])
        if chosen is None:
            return []
        return [Run(self.dataset, self.trials[chosen].contender, seed, tried=tried) for seed in self.seeds]

    def _named(self, runs: list[Run]) -> dict[str, Run]:
        """Return runs by their ids, the first of those that share one: two trials may have drawn the same."""
        named: dict[str, Run] = {}
        for run in runs:
            named.setdefault(self.id(run), run)
        return named

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """What its trainings share, as ``Comparison.kinds`` has it."""
        return self.experiment.comparison.kind(self.dataset, self.contender)

    @property
    def missing(self) -> int:
        """How many trainings have no record yet."""
        return len(self.trials) + len(self.seeds) - len(self.records)

    def record(self, run: Run) -> Record | None:
        """Return what came of a trial or run, as far as this study knows."""
        return self.records.get(self.id(run))

    def learn(self, records: Mapping[str, Record]) -> None:
        """Take in what came of trainings, by their ids; once all trials are done, the runs are open."""
        self.records.update(records)
        for id in records:
            self.open.pop(id, None)
        if not self.open and self._runs is None:
            self.open = {id: run for id, run in self._named(self.runs()).items() if id not in self.records}

    def look(self, store: Store, policy: ResumePolicy) -> None:
        """Learn from the store what other processes, or earlier ones, have done."""
        while True:
            found = {id: self.find(run, store, policy) for id, run in self.open.items()}
            self.learn({id: record for id, record in found.items() if record is not None})
            if not self.open or not self.open.keys().isdisjoint(found):
                return  # else all trials are done, which leads to runs

    def find(self, run: Run, store: Store, policy: ResumePolicy) -> Record | None:
        """Return what the store has of a run: its record, or else that it failed."""
        if policy.redo or (run.trial is None and not policy.is_kept(self.experiment, run)):
            return None
        comparison, id, name = self.experiment.comparison, self.id(run), run.contender.name
        place = comparison.backbone.name, comparison.task.name, run.dataset, id
        if record := store.find(run.kind, *place, file_name(name, run.which, id)):
            return record
        return None if policy.retry_failed else store.find(Failure, *place, file_name(name, run.kind.kind, id))

    def results(self) -> list[Result]:
        return [record for record in self.records.values() if isinstance(record, Result)]

    def failures(self) -> list[Failure]:
        """Return the failures that cost a result or that nobody expected.

        A trial that diverged is neither as long as another trial did not: that is what a search is for.
        """
        failed = [record for record in self.records.values() if isinstance(record, Failure)]
        nothing_left = len(failed) == len(self.trials)
        return [failure for failure in failed if failure.of == Result.kind or failure.details or nothing_left]

    def _summary(self, trial: Run) -> Tried:
        record, settings = self.record(trial), trial.contender.searched()
        if isinstance(record, Trial):
            seconds = record.cost.train_seconds + record.cost.frozen_prefix_seconds
            return Tried(record.id, settings, record.validation[record.task.metric], seconds, "")
        assert isinstance(record, Failure)  # not None: there are runs once every trial has its record
        return Tried(record.id, settings, None, 0.0, record.reason)


class Executor(Protocol):
    """Who does the trainings: this process, several that train together, or a cluster."""

    def has_capacity(self) -> bool:
        """Whether another run can be taken on now."""

    def submit(self, experiment: Experiment, run: Run) -> None:
        """Take a run on."""

    def wait(self) -> list[tuple[Run, Record]]:
        """Return what is finished, each once; wait for a moment if nothing is."""

    def shutdown(self) -> None:
        """Stop what is running, and take nothing on any more."""


def attempt(
    experiment: Experiment, run: Run, on_step: Callable[[int], None], keep: Callable[[Run, Learner], None] | None = None
) -> Record:
    """Measure a run; return its record, or a failure that says why there is none.

    What was learnt is given to ``keep``. That it cannot be kept costs no result: the log says so.
    """
    try:
        record, learner = experiment.measure(run, on_step)
    except UserError as error:
        return experiment.failure(run, _in_one_line(error))
    except Exception as error:  # out of memory, a defect in a plug-in: whatever it is, the sweep goes on
        if experiment.accelerator.num_processes > 1:
            raise  # the other processes wait for this one in the middle of a step: all must end
        return experiment.failure(run, _in_one_line(error), traceback.format_exc())
    if keep and run.trial is None:
        try:
            keep(run, learner)
        except Exception as error:
            log.warning("what %s learnt is not kept: %s", run, _in_one_line(error))
    return record


def _in_one_line(error: Exception) -> str:
    return one_line(error, None) if isinstance(error, UserError) else described(error, 400)


def _place(error: Exception) -> str:
    """Return where an error was raised, for who has to mend it: "tasks/mine.py, line 12"."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{'/'.join(Path(frame.filename).parts[-2:])}, line {frame.lineno}"


@dataclass
class SweepReport:
    """What a sweep ends with, of this time and of earlier ones."""

    results: list[Result] = field(default_factory=list)
    lost: list[Result] = field(default_factory=list)
    """Those of the results that somebody deleted from the store while the sweep went on."""
    trials: list[tuple[str, Trial]] = field(default_factory=list)
    """Those of contenders that have no runs, with what the contender is called."""
    failures: list[Failure] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """A line for every backbone or data set that could not be loaded, and for every adapter that could not be kept."""


class Progress(Protocol):
    """Progress callbacks of a sweep."""

    def loading(self, dataset: str) -> None: ...
    def skipped(self, experiment: Experiment, dataset: str) -> None: ...
    def entered(self, study: Study) -> None: ...
    def starting(self, study: Study, run: Run) -> None: ...
    def finished(self, study: Study, run: Run, record: Record) -> None: ...
    def ended(self, study: Study) -> None: ...


class Sweep:
    """Brings every study to its end, by an executor, in a store."""

    def __init__(self, store: Store, executor: Executor, policy: ResumePolicy, progress: Progress) -> None:
        self.store, self.executor, self.policy, self.progress = store, executor, policy, progress
        self.report = SweepReport()
        self._fresh: Iterator[Study] = iter(())
        self._waiting: list[Study] = []
        self._done: set[str] = set()
        """The ids of what is on record."""
        self._running: dict[str, tuple[Study, ExitStack]] = {}

    def go(self, experiments: Iterable[Experiment]) -> SweepReport:
        """Do what is missing; return all results and failures, of this time and of earlier ones.

        Raises: ``UserError`` if the store cannot be written, or if nothing at all could be loaded.
        """
        self._fresh = self._studies(experiments)
        try:
            while True:
                self._start()
                if self._running:
                    for run, record in self.executor.wait():
                        self._finish(run, record)
                elif self._waiting:  # other processes are at work on all that is left
                    time.sleep(POLL)
                else:
                    break
        finally:
            for _, claim in self._running.values():
                claim.close()
        self.store.forget_claims()
        self.store.forget_checkpoints(self._done)
        self.report.lost = [result for result in self.report.results if not self.store.holds(result)]
        return self.report

    def _studies(self, experiments: Iterable[Experiment]) -> Iterator[Study]:
        """Yield the studies, each data set loaded when it is reached."""
        for experiment in experiments:
            for dataset in experiment.comparison.datasets():
                self.progress.loading(dataset)
                try:
                    yield from self._of_dataset(experiment, dataset)
                except UserError as error:
                    self._skip(experiment, dataset, _in_one_line(error))
                except Exception as error:  # a defect, in a plug-in or here: the other data sets go on
                    if experiment.accelerator.num_processes > 1:
                        raise
                    self._skip(experiment, dataset, f"{_in_one_line(error)} ({_place(error)})")

    def _skip(self, experiment: Experiment, dataset: str, reason: str) -> None:
        self.report.broken.append(f"{dataset}: {reason}")
        self.progress.skipped(experiment, dataset)

    def _of_dataset(self, experiment: Experiment, dataset: str) -> list[Study]:
        studies = [Study(experiment, dataset, contender) for contender in experiment.comparison.contenders]
        for study in studies:
            study.look(self.store, self.policy)
        if any(study.open for study in studies):
            experiment.prepare(dataset)
        for study in studies:
            self.progress.entered(study)
        return studies

    def _start(self) -> None:
        """Hand out work as long as there are room and work that nobody else has claimed."""
        while self.executor.has_capacity() and (found := self._next()):
            study, run, claim = found
            name = study.id(run)
            self._running[name] = study, claim
            if self.policy.redo:
                self.store.forget_checkpoint(name)
            self.progress.starting(study, run)
            self.executor.submit(study.experiment, run)

    def _next(self) -> tuple[Study, Run, ExitStack] | None:
        for study in self._candidates():
            if found := self._claim(study):
                return study, *found
            self._unfinished(study)  # others may have done all that was left of it
        return None

    def _candidates(self) -> Iterator[Study]:
        """Yield studies that are not finished, begun ones first; let go of those that are."""
        yield from filter(self._unfinished, list(self._waiting))
        for study in self._fresh:
            self._waiting.append(study)
            if self._unfinished(study):
                yield study

    def _unfinished(self, study: Study) -> bool:
        if study.open:
            return True
        self._waiting.remove(study)
        self._done.update(study.records)
        self.report.results += study.results()
        if not study.seeds:
            tried = [study.record(trial) for trial in study.trials]
            self.report.trials += [(study.contender.label, each) for each in tried if isinstance(each, Trial)]
        self.report.failures += study.failures()
        self.progress.ended(study)
        return False

    def _claim(self, study: Study) -> tuple[Run, ExitStack] | None:
        """Return the first open run of a study that is neither claimed nor done by now, and the claim on it."""
        while True:
            done: dict[str, Record] = {}
            for id, run in study.open.items():
                claim = ExitStack()
                if id not in self._running and claim.enter_context(self.store.claim(id)):
                    record = study.find(run, self.store, self.policy)  # its last holder may have finished it
                    if record is None:
                        study.learn(done)
                        return run, claim
                    done[id] = record
                claim.close()
            study.learn(done)
            if not done:
                return None

    def _finish(self, run: Run, record: Record) -> None:
        study, claim = self._running[record.id]
        try:
            self.store.save(record)
        except UserError as error:
            if isinstance(record, Failure) or isinstance(error, CannotWrite):
                raise
            record = study.experiment.failure(run, _in_one_line(error))
            self.store.save(record)
        self.store.forget_checkpoint(record.id)
        study.learn({record.id: record})
        del self._running[record.id]
        claim.close()
        self.progress.finished(study, run, record)
        if isinstance(record, Result) and not self.policy.is_kept(study.experiment, run):
            self.report.broken.append(f"{run}: what it learnt is not kept; give the command again to make it anew")
