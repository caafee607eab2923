"""Who does a sweep's trainings on this machine: this process, or several that were launched to train together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.experiments.comparison import Run
from zipeft.experiments.experiment import Experiment, OnStep
from zipeft.experiments.sweep import attempt
from zipeft.results import Record
from zipeft.training.parallel import agree

Keep = Callable[[Experiment, Run, Learner], None]


class LocalExecutor:
    """One run at a time, in this process; with processes that ``follow``, all of them train it together."""

    def __init__(self, experiments: Sequence[Experiment], on_step: OnStep, keep: Keep | None = None) -> None:
        self.experiments, self.on_step, self.keep = experiments, on_step, keep
        self._done: list[tuple[Run, Record]] = []
        self._at_work = False

    def has_capacity(self) -> bool:
        return not self._done

    def submit(self, experiment: Experiment, run: Run) -> None:
        agree(experiment.accelerator, (self.experiments.index(experiment), run))
        keep = None if self.keep is None else partial(self.keep, experiment)
        self._at_work = True
        self._done.append((run, attempt(experiment, run, self.on_step, keep)))
        self._at_work = False

    def wait(self) -> list[tuple[Run, Record]]:
        done, self._done = self._done, []
        return done

    def shutdown(self) -> None:
        """Let the processes that follow end; those that wait in the middle of a step are for their launcher to end."""
        if not self._at_work:
            agree(self.experiments[0].accelerator, None)


def follow(experiments: Sequence[Experiment]) -> None:
    """Train along with the main process until it is done; the main process keeps the results."""
    while (work := agree(experiments[0].accelerator, None)) is not None:
        index, run = work
        try:
            experiments[index].measure(run)
        except UserError:
            continue  # every process has met it, and the main one records it: see parallel.read for others
