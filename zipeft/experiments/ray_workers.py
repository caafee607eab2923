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
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from zipeft.errors import CannotWrite, UserError
from zipeft.experiments.adapter_store import AdapterStore
from zipeft.experiments.comparison import Run
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.sweep import POLL, attempt
from zipeft.last_only import LastOnly
from zipeft.results import Record

try:
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError
except ImportError as error:
    raise UserError("--ray needs Ray, which is not installed: pip install 'zipeft[ray]'") from error

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

TRIES = 4
"""How often a training is begun whose process dies, or its machine."""

THREADS = 4
"""The CPUs of a training, where its machine has as many: twice as many do not make it twice as fast."""

IDLE = 60.0
"""Seconds for which a process that has no work keeps its place, with weights and data loaded."""


@dataclass(frozen=True)
class Place:
    """What a training gets of a machine. ``gpus`` is at most 1; with 0.5, two trainings share one."""

    cpus: int
    gpus: float

    def __str__(self) -> str:
        return f"{self.cpus} CPU{'s' * (self.cpus > 1)}" + (f" and {self.gpus:g} GPU" if self.gpus else "")

    def on(self, machine: Mapping[str, float]) -> int:
        """Return how many of it a machine with these resources has."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        return int(min(machine.get(name, 0) / each + 1e-9 for name, each in wanted.items() if each))


@dataclass(frozen=True)
class Answer:
    """What comes back from a machine: a record and the files of what was learnt, or why the machine can give none."""

    record: Record | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    details: str = ""


class RemoteProcess:
    """A process of the cluster, with a place of its own, that does one run after another."""

    def __init__(self, accelerator: Callable[[], Accelerator], threads: int, folder: str, keeps: bool) -> None:
        with suppress(OSError):  # paths on the command line may be relative to where it was given
            os.chdir(folder)
        torch.set_num_threads(threads)
        self.accelerator, self.keeps = accelerator, keeps
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
        comparison, command = cloudpickle.loads(parts)
        return Experiment(comparison, self.accelerator(), command)

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
    """As many runs at once as the cluster has places, each in a process there. Machines may join and leave."""

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

        A place has as many CPUs and GPUs as asked for, or as suit the cluster. Raises ``UserError`` if there is no
        such cluster, or it cannot have such a place.
        """
        self.adapters = adapters
        self._running: dict[Any, Work] = {}
        self._idle: list[tuple[float, Any]] = []
        self._told = False
        _check(cpus, gpus)
        _join(address)
        try:
            self.place = _place(_machines(), cpus, gpus, device)
            if address == "local" and not self._places():
                raise UserError(f"{self._too_small()}; ask for less with --ray-cpus and --ray-gpus")
        except UserError:
            ray.shutdown()
            raise
        if device == "auto":
            device = "cuda" if self.place.gpus else "cpu"
        keeps = adapters is not None
        remote = ray.remote(RemoteProcess).options(num_cpus=self.place.cpus, num_gpus=self.place.gpus)
        self._start = partial(remote.remote, partial(accelerator, device), self.place.cpus, os.getcwd(), keeps)

    def has_capacity(self) -> bool:
        places = self._places()
        if not places and not self._told:
            print(f"zipeft: {self._too_small()}: waiting for one that has", file=sys.stderr)
        self._told = not places
        return len(self._running) < max(places, 1)  # one that waits lets a cluster grow that grows on demand

    def submit(self, experiment: Experiment, run: Run) -> None:
        process = self._idle.pop()[1] if self._idle else self._start()
        self._begin(Work(experiment, run, process, tries=1))

    def wait(self) -> list[tuple[Run, Record]]:
        # A process ends when nothing refers to it any more. Its place may be one that another of ours waits for.
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
                return self._begin(replace(work, process=self._start(), tries=work.tries + 1))
            reason = f"its process on the cluster died {TRIES} times; the last: {_cause(error)}"
            return work.experiment.failure(work.run, reason, str(error))
        if len(self._running) < self._places():
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
        if files:
            self.adapters.put(experiment, run, files)

    def _places(self) -> int:
        return sum(map(self.place.on, _machines()))

    def _too_small(self) -> str:
        return f"no machine of the cluster has {self.place} for a training"


def _machines() -> list[dict[str, float]]:
    """Return the resources of each machine that is there now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _check(cpus: int | None, gpus: float | None) -> None:
    if cpus is not None and cpus < 1:
        raise UserError(f"--ray-cpus {cpus}: give each training 1 or more")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--ray-gpus {gpus:g}: a training takes 1, or a part of one such as 0.5, or 0 for the CPU")


def _place(machines: list[dict[str, float]], cpus: int | None, gpus: float | None, device: str) -> Place:
    """Return the place of a training: a GPU where there are any, and an equal part of its machine's CPUs."""
    if gpus is None:
        gpus = float(device in ("auto", "cuda") and any(machine.get("GPU") for machine in machines))
    if device == "cuda" and not gpus:
        raise UserError("--device cuda: no machine of the cluster has a GPU, or --ray-gpus is 0")
    if cpus is None:
        suited = [machine for machine in machines if machine.get("CPU") and (not gpus or machine.get("GPU"))]
        parts = [machine["CPU"] * (gpus / machine["GPU"] if gpus else 1) for machine in suited]
        cpus = max(1, int(min([THREADS, *parts])))
    return Place(cpus, gpus)


def _join(address: str) -> None:
    """Connect to a cluster. Raises ``UserError`` if there is none at this address."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    _reach(address)
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", include_dashboard=_dashboard(address))
    except ConnectionError as error:
        message = "no Ray cluster answers: start one with `ray start --head`, or write --ray local for this machine"
        raise UserError(message) from error
    except Exception as error:  # a malformed address, another version of Ray, a start that took too long: of any class
        raise UserError(f"--ray {address}: {' '.join(str(error).split())}") from error
    if address == "local" and not ip_address(ray.util.get_node_ip_address()).is_loopback:
        ray.shutdown()
        raise UserError(
            "--ray local would open ports to the network, because something imported Ray before: start a cluster of "
            "your own with `ray start --head`, and give --ray"
        )


def _reach(address: str) -> None:
    """Raise ``UserError`` if nothing answers at host:port, of which Ray itself convinces itself for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise UserError(f"--ray {address}: no Ray cluster answers there ({error.strerror or error})") from error


def _dashboard(address: str) -> bool | None:
    """A cluster for one command needs no web page; of another one, this is not ours to say."""
    return False if address == "local" else None


@cache
def _parts(experiment: Experiment) -> bytes:
    """Return what an experiment is made of, pickled. Installed plug-ins go by name, those of a script as they are."""
    comparison = replace(experiment.comparison, contenders=())  # each run brings its own
    return cloudpickle.dumps((comparison, experiment.describer.command))


def _cause(error: RayError) -> str:
    """Return the kind of an error, and how the last line of Ray's explanation begins, which names the cause."""
    last = str(error).strip().splitlines()[-1]
    return f"{type(error).__name__}: {last.partition('. ')[0]}"
