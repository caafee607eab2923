"""What records say of a run: what decides it, by which it has its id, where it ran, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from zipeft.adapters import saved
from zipeft.adapters.record import AdapterRecord
from zipeft.api import search
from zipeft.api.data import Data
from zipeft.api.learner import Learner
from zipeft.api.settings import as_json
from zipeft.experiments.comparison import Comparison, Run
from zipeft.registry import Named
from zipeft.results import (
    RESULT_VERSION,
    BackboneRecord,
    Cost,
    Failure,
    MethodRecord,
    Record,
    Sizes,
    TaskRecord,
    Trained,
    now,
    record_id,
)
from zipeft.results.environment import Environment, current_environment
from zipeft.training.costs import PeakMemory
from zipeft.training.dataset import EncodedSplit
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.stopwatch import Spent
from zipeft.training.training_log import TrainingLog

Kind = TypeVar("Kind", bound=Trained)

WORK = ("epochs", "batch_size", "max_steps", "precision")
"""What of a protocol decides how much work a training is."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training left: the learner as it was after its best epoch, how it came there, and what that cost."""

    learner: Learner
    log: TrainingLog
    cost: Cost


class Describer:
    """Describes the runs of a comparison. ``data`` returns a data set by its name, ``parameters`` counts those of the
    backbone; both may have to load them."""

    def __init__(
        self,
        comparison: Comparison,
        device: torch.device,
        command: str,
        data: Callable[[str], Data],
        parameters: Callable[[], int],
        execution: Execution = BY_DEFAULT,
    ) -> None:
        self.comparison, self.device, self.command = comparison, device, command
        self.execution = execution
        self._data, self._parameters = data, parameters
        self._tasks: dict[str, TaskRecord] = {}

    def id(self, run: Run) -> str:
        """Return the id of the run's record, before it has run."""
        return record_id(run.kind.kind, **self.identity(run))

    def identity(self, run: Run) -> dict[str, Any]:
        """Return all that decides what a run scores."""
        protocol, contender = self.comparison.protocol, run.contender
        return {
            "backbone": self.backbone,
            "task": self.task(run.dataset),
            "method": MethodRecord(contender.name, as_json(contender.method), search.as_record(contender.space)),
            "protocol": protocol.of_run() if run.trial is None else protocol.of_trial(),
            "seed": run.seed,
            "version": RESULT_VERSION,
        }

    def failure(self, run: Run, reason: str, details: str = "") -> Failure:
        """Return the record of a run that failed."""
        return Failure(**self._head(run), of=run.kind.kind, reason=reason, details=details)

    def trained(self, kind: type[Kind], run: Run, outcome: TrainingOutcome, **more: Any) -> Kind:
        """Return the record of a training, with what its kind says ``more``."""
        log = outcome.log
        return kind(
            **self._head(run, log.execution),
            validation=log.validation,
            selected_epoch=log.selected_epoch,
            history=tuple(log.history),
            cost=outcome.cost,
            **more,
        )

    def adapter(self, run: Run) -> AdapterRecord:
        """Return what is saved beside the run's adapter."""
        backbone, task, contender = self.comparison.backbone, self.comparison.task, run.contender
        method = Named(contender.name, contender.method)
        return AdapterRecord.of(backbone, method, task, run.dataset, self._data(run.dataset).classes)

    def checkpoint_head(self, run: Run) -> dict[str, Any]:
        """Return what a checkpoint of a run must have been written with: another version may go on otherwise."""
        here = self._environment
        return {
            "run": self.id(run),
            "versions": here.versions,
            "commit": here.commit,
            "dirty": here.dirty,
            "device": self.device.type,
            "execution": here.execution,
        }

    def lasts_as_long_as(self, record: Record) -> bool:
        """Whether what is on record was as much work as it would be here, on the same kind of device. Needs weights."""
        here, there = self.backbone, record.backbone
        return (
            (here.checkpoint, here.checksum, here.settings) == (there.checkpoint, there.checksum, there.settings)
            and self._task_settings == record.task.settings
            and all(getattr(self.comparison.protocol, name) == record.protocol.get(name) for name in WORK)
            and record.environment.device.partition(":")[0] == self.device.type
        )

    @cached_property
    def backbone(self) -> BackboneRecord:
        backbone = self.comparison.backbone.plugin
        parameters = self._parameters()
        weights = backbone.weights()  # once the model is loaded: the checksum of downloaded weights is known then
        # What names weights may be a path; the record has their names and their checksum.
        named = set(backbone.weight_settings)
        settings = {k: v for k, v in as_json(backbone).items() if not (k in named and isinstance(v, str))}
        identity = (weights.checkpoint, weights.source, weights.checksum)
        return BackboneRecord(self.comparison.backbone.name, *identity, parameters=parameters, settings=settings)

    def task(self, dataset: str) -> TaskRecord:
        """Return the record of a data set of the task."""
        if dataset not in self._tasks:
            self._tasks[dataset] = self._describe(dataset)
        return self._tasks[dataset]

    def _describe(self, dataset: str) -> TaskRecord:
        task, data = self.comparison.task, self._data(dataset)
        return TaskRecord(
            name=task.name,
            dataset=dataset,
            metric=task.plugin.objective(dataset, data.classes).metric,
            source=data.source,
            checksum=data.checksum,
            note=data.note,
            classes=len(data.classes),
            sizes=Sizes(*data.counts()),
            settings=self._task_settings,
        )

    @property
    def _task_settings(self) -> dict[str, Any]:
        task = self.comparison.task.plugin
        return {key: value for key, value in as_json(task).items() if key not in task.unrecorded}

    @cached_property
    def _environment(self) -> Environment:
        return current_environment(self.command, str(self.device), self.execution.as_record())

    def _head(self, run: Run, execution: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        whole = {**self._environment.execution, **execution}
        environment = replace(self._environment, execution=whole)
        return {**self.identity(run), "environment": environment, "created": now()}


def cost_of(
    learner: Learner, train: EncodedSplit, log: TrainingLog, memory: PeakMemory, before: Spent, flops: tuple[int, int]
) -> Cost:
    """Return what a training cost: ``before`` is the time before its first step, ``flops`` are ``count_flops``'."""
    rate = log.examples / log.training.wall if log.steps else 0.0
    return Cost(
        trainable_parameters=sum(parameter.numel() for parameter in learner.method_parameters().values()),
        head_parameters=sum(parameter.numel() for parameter in learner.head_parameters().values()),
        adapter_bytes=saved.adapter_bytes(learner),
        adapted_from_block=learner.frozen_blocks,
        frozen_prefix_seconds=before.wall,
        train_seconds=log.training.wall,
        cpu_seconds=before.cpu + log.training.cpu,
        threads=torch.get_num_threads(),
        steps=log.steps,
        evaluation_seconds=log.evaluation.wall,
        examples_per_second=rate,
        peak_memory_bytes=max(memory.bytes, log.earlier_peak_bytes),
        peak_memory_kind=memory.kind,
        tokens_per_second=rate * fmean(train.lengths) if log.steps and train.lengths else None,
        training_flops=flops[0],
        inference_flops=flops[1],
    )
