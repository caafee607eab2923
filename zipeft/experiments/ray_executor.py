"""The machines of a Ray cluster do a sweep's trainings. This process hands them out, and it alone writes the store.

A machine needs zipeft with the plug-ins that are used, and the data; it needs no folder that all machines share.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import ray
import torch
from ray import cloudpickle
from ray.exceptions import RayError

from zipeft.errors import CannotWrite, UserError
from zipeft.experiments.adapter_store import AdapterStore
from zipeft.experiments.comparison import Run
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.ray_cluster import alive, check_slot, join, slot_for
from zipeft.experiments.sweep import POLL, attempt
from zipeft.last_only import LastOnly
from zipeft.results import Record
from zipeft.training.readers import MOST_BY_DEFAULT

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

TRIES = 4
"""How often a training is begun whose process dies, or its machine."""

IDLE = 60.0
"""Seconds for which a process that has no work keeps its slot, with weights and data loaded."""


@dataclass(frozen=True)
class Answer:
    """What comes back from a machine: a record and the files of what was learnt, or why the machine can give none."""

    record: Record | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    details: str = ""


class RemoteProcess:
    """A process of the cluster, with a slot of its own, that does one run after another."""

    def __init__(self, accelerator: Callable[[], Accelerator], threads: int, folder: str, keeps: bool) -> None:
        with suppress(OSError):  # paths on the command line may be relative to where it was given
            os.chdir(folder)
        torch.set_num_threads(threads)
        self.accelerator, self.threads, self.keeps = accelerator, threads, keeps
        self._experiments = LastOnly(self._build)  # one model in memory is enough

    def measure(self, parts: bytes, run: bytes) -> Answer:
        """Do a run; both arguments are pickled, so that what cannot be imported here is an answer too."""
        try:
            experiment = self._experiments.get(parts)
            return self._measure(experiment, cloudpickle.loads(run))
        except Exception as error:  # no record can say it: it would have to describe weights or data that are missing
            what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return Answer(reason=" ".join(f"on {socket.gethostname()}: {what}".split()), details=traceback.format_exc())

    def _build(self, parts: bytes) -> Experiment:
        comparison, command, execution = cloudpickle.loads(parts)
        if execution.workers is None:  # of the slot's CPUs, not of the machine's
            execution = replace(execution, workers=min(MOST_BY_DEFAULT, max(0, self.threads - 1)))
        return Experiment(comparison, self.accelerator(), command, execution=execution)

    def _measure(self, experiment: Experiment, run: Run) -> Answer:
        with TemporaryDirectory() as folder:
            root = Path(folder)
            keep = partial(AdapterStore(root).keep, experiment) if self.keeps else None
            record = attempt(experiment, run, lambda steps: None, keep)
            files = [path for path in root.rglob("*") if path.is_file()]
            return Answer(record, {path.relative_to(root).as_posix(): path.read_bytes() for path in files})


@dataclass(frozen=True)
class Work:
    """A run, and the remote process that does it. ``tries`` counts this one."""

    experiment: Experiment
    run: Run
    process: Any
    tries: int


class RayExecutor:
    """As many runs at once as the cluster has slots, each in a process there. Machines may join and leave."""

    def __init__(
        self,
        address: str,
        cpus: int | None,
        gpus: float | None,
        device: str,
        accelerator: Callable[[str], Accelerator],
        adapters: AdapterStore | None = None,
    ) -> None:
        """Join a cluster: "auto" stands for the one that runs here, "local" starts one for as long as this lasts.

        A slot has as many CPUs and GPUs as asked for, or as suit the cluster. Raises ``UserError`` if there is no
        such cluster, or it cannot have such a slot.
        """
        self.adapters = adapters
        self._running: dict[Any, Work] = {}
        self._idle: list[tuple[float, Any]] = []
        self._told = False
        check_slot(cpus, gpus)
        join(address)
        try:
            self.slot = slot_for(alive(), cpus, gpus, device)
            if address == "local" and not self._slots():
                raise UserError(f"{self._too_small()}; ask for less with --ray-cpus and --ray-gpus")
        except UserError:
            ray.shutdown()
            raise
        if device == "auto":
            device = "cuda" if self.slot.gpus else "cpu"
        keeps = adapters is not None
        remote = ray.remote(RemoteProcess).options(num_cpus=self.slot.cpus, num_gpus=self.slot.gpus)
        self._start = partial(remote.remote, partial(accelerator, device), self.slot.cpus, os.getcwd(), keeps)

    def has_capacity(self) -> bool:
        slots = self._slots()
        if not slots and not self._told:
            print(f"zipeft: {self._too_small()}: waiting for one that has", file=sys.stderr)
        self._told = not slots
        return len(self._running) < max(slots, 1)  # one that waits lets a cluster grow that grows on demand

    def submit(self, experiment: Experiment, run: Run) -> None:
        process = self._idle.pop()[1] if self._idle else self._start()
        self._begin(Work(experiment, run, process, tries=1))

    def wait(self) -> list[tuple[Run, Record]]:
        # A process ends when nothing refers to it any more. Its slot may be one that another of ours waits for.
        self._idle = [(since, process) for since, process in self._idle if time.monotonic() - since < IDLE]
        done, _ = ray.wait(list(self._running), timeout=POLL)
        works = [(answer, self._running.pop(answer)) for answer in done]
        return [(work.run, record) for answer, work in works if (record := self._record(answer, work))]

    def shutdown(self) -> None:
        """Stop what is running, and leave the cluster."""
        self._running, self._idle = {}, []
        ray.shutdown()

    def _begin(self, work: Work) -> None:
        answer = work.process.measure.remote(_parts(work.experiment), cloudpickle.dumps(work.run))
        self._running[answer] = work

    def _record(self, remote_answer: Any, work: Work) -> Record | None:
        """Return what came of a run, or None if it has to be done again."""
        try:
            answer = ray.get(remote_answer)
        except RayError as error:  # the process or its machine has died
            if work.tries < TRIES:
                self._begin(replace(work, process=self._start(), tries=work.tries + 1))
                return None
            reason = f"its process on the cluster died {TRIES} times; the last: {_cause(error)}"
            return work.experiment.failure(work.run, reason, str(error))
        if len(self._running) < self._slots():
            self._idle.append((time.monotonic(), work.process))
        return self._checked(answer, work.experiment, work.run)

    def _checked(self, answer: Answer, experiment: Experiment, run: Run) -> Record:
        """Return the record of an answer, what was learnt kept; a failure if it is not the one that was asked for."""
        if answer.record is None:
            return experiment.failure(run, answer.reason, answer.details)
        if answer.record.id != experiment.id(run):
            reason = "the machine that did it has another version of zipeft, other weights or other data than this one"
            return experiment.failure(run, reason, f"it has {answer.record.backbone} and {answer.record.task}")
        try:
            self._keep(experiment, run, answer.files)
        except CannotWrite as error:
            log.warning("what %s learnt is not kept: %s", run, error)
        return answer.record

    def _keep(self, experiment: Experiment, run: Run, files: Mapping[str, bytes]) -> None:
        if files and self.adapters is not None:
            self.adapters.put(experiment, run, files)

    def _slots(self) -> int:
        return sum(map(self.slot.on, alive()))

    def _too_small(self) -> str:
        return f"no machine of the cluster has {self.slot} for a training"


@cache
def _parts(experiment: Experiment) -> bytes:
    """Return what an experiment is made of, pickled. Installed plug-ins go by name, those of a script as they are."""
    comparison = replace(experiment.comparison, contenders=())  # each run brings its own
    return cloudpickle.dumps((comparison, experiment.describer.command, experiment.execution))


def _cause(error: RayError) -> str:
    """Return the kind of an error, and how the last line of Ray's explanation begins, which names the cause."""
    last = str(error).strip().splitlines()[-1]
    return f"{type(error).__name__}: {last.partition('. ')[0]}"
