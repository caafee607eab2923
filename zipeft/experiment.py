"""One comparison: a backbone and a task, on which methods are measured, one run at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn

from zipeft import adapter
from zipeft.backbone import Backbone
from zipeft.costs import PeakMemory
from zipeft.examples import Encoded, fits
from zipeft.learner import Learner
from zipeft.method import Method
from zipeft.protocol import Protocol
from zipeft.results import (
    BackboneRecord,
    Cost,
    Epoch,
    MethodRecord,
    Result,
    Scores,
    Sizes,
    TaskRecord,
    now,
    run_id,
)
from zipeft.results.environment import Environment, current_environment
from zipeft.settings import as_json
from zipeft.task import Data, Task
from zipeft.training import Fit, Trainer


@dataclass(frozen=True)
class Run:
    """What is measured at once: a method, with its settings, on a data set from a seed."""

    dataset: str
    method_name: str
    method: Method
    seed: int


class Experiment:
    """A backbone and a task under one protocol. Weights and data are loaded when they are first needed."""

    def __init__(
        self,
        backbone: tuple[str, Backbone],
        task: tuple[str, Task],
        protocol: Protocol,
        accelerator: Accelerator,
        command: str,
    ) -> None:
        self.backbone_name, self.backbone = backbone
        self.task_name, self.task = task
        self.protocol, self.accelerator, self.command = protocol, accelerator, command
        self.trainer = Trainer(self.task, protocol, accelerator)
        self._prefixes: dict[tuple, tuple[Tensor, float]] = {}
        self.data = lru_cache(maxsize=1)(self.task.load)
        self._encoded = lru_cache(maxsize=1)(self._encode)

    @cached_property
    def model(self) -> nn.Module:
        """The frozen model that every run starts from."""
        return self.backbone.build().requires_grad_(False).eval()

    def prepare(self, dataset: str) -> None:
        """Load weights and data, encoded. Raises ``UserError`` for whatever is missing or broken in them."""
        _ = self.model
        self._encoded(dataset)

    def run_id(self, run: Run) -> str:
        """Return the id of the run's result, before it has run."""
        return run_id(self._backbone_record, self._task_record(run.dataset), *self._setting(run))

    def measure(self, run: Run, on_step: Callable[[int], None] = lambda steps: None) -> tuple[Result, Learner]:
        """Train and test once; return the result and what has learnt.

        Raises: ``UserError`` if the method does not go with the backbone, or the loss is not finite.
        """
        data, encoded = self.data(run.dataset), self._encoded(run.dataset)
        set_seed(run.seed)
        learner = self._learner(run.method, data, encoded["train"])
        train, validation, prefix_seconds = self._with_prefixes(run.dataset, learner, encoded)
        with PeakMemory(self.accelerator.device) as memory:
            outcome = self.trainer.fit(learner, run.method, train, validation, run.seed, on_step)
        start = time.perf_counter()
        scores, predictions, targets = self.trainer.evaluate(learner, encoded["test"])
        test_seconds = time.perf_counter() - start
        self.accelerator.free_memory()
        cost = _cost(learner, outcome, memory, prefix_seconds, test_seconds)
        return self._result(run, outcome, scores, predictions, targets, cost), learner

    def adapter_record(self, run: Run) -> dict[str, Any]:
        """Return what is saved beside the run's adapter."""
        method, task = (run.method_name, run.method), (self.task_name, self.task)
        classes = list(self.data(run.dataset).classes)
        return adapter.adapter_record(self.backbone_name, self.backbone, method, task, run.dataset, classes)

    def _encode(self, dataset: str) -> dict[str, Encoded]:
        data, encode = self.data(dataset), self.task.encoder(self.backbone)
        self._prefixes.clear()
        return {name: Encoded(getattr(data, name), encode) for name in ("train", "validation", "test")}

    def _learner(self, method: Method, data: Data, train: Encoded) -> Learner:
        model = copy.deepcopy(self.model)
        head = self.task.head(data.classes, self.backbone.width(model))
        method.apply(self.backbone, model)
        learner = Learner(self.backbone, model, head).to(self.accelerator.device)
        learner.find_prefix(send_to_device(train.batch(2), self.accelerator.device))
        return learner

    def _with_prefixes(self, dataset: str, learner: Learner, encoded: dict[str, Encoded]):
        """Return training and validation data with their frozen prefix, if there is one and memory for it."""
        splits, seconds = [], 0.0
        for name in ("train", "validation"):
            prefix, spent = self._prefix((dataset, name), learner, encoded[name])
            seconds += spent
            needs_inputs = not learner.only_head_trains
            splits.append(encoded[name] if prefix is None else encoded[name].with_prefix(prefix, needs_inputs))
        return *splits, seconds

    def _prefix(self, split: tuple[str, str], learner: Learner, data: Encoded) -> tuple[Tensor | None, float]:
        """Return the prefix of a split, and the seconds that it took to compute.

        Runs that are frozen up to the same place share it; the first batch is computed anew and compared, lest a
        method has changed a frozen layer after all.
        """
        if not learner.has_prefix:
            return None, 0.0
        learner.eval()
        first = self._compute(learner, data, batches=1)
        key = (*split, learner.frozen_blocks, learner.only_head_trains)
        known = self._prefixes.get(key)
        if known is not None and torch.equal(known[0][: len(first)], first):
            return known
        if not fits(first[0].nbytes * len(data)):
            return None, 0.0
        start = time.perf_counter()
        prefix = self._compute(learner, data)
        self._prefixes = {key: kept for key, kept in self._prefixes.items() if key[:2] != split}
        self._prefixes[key] = prefix, time.perf_counter() - start
        return self._prefixes[key]

    def _compute(self, learner: Learner, data: Encoded, batches: int | None = None) -> Tensor:
        parts = []
        with self.accelerator.autocast():
            for batch in data.loader(self.protocol.batch_size):
                parts.append(learner.prefix(send_to_device(batch["inputs"], self.accelerator.device)).cpu())
                if len(parts) == batches:
                    break
        return torch.cat(parts)

    @cached_property
    def _environment(self) -> Environment:
        return current_environment(self.command, str(self.accelerator.device))

    @cached_property
    def _backbone_record(self) -> BackboneRecord:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        weights = self.backbone.weights()  # after the model: the checksum of downloaded weights is known then
        settings = as_json(self.backbone)
        del settings["checkpoint"]  # it may be a path; the record has its name and its checksum
        return BackboneRecord(self.backbone_name, **asdict(weights), parameters=parameters, settings=settings)

    def _task_record(self, dataset: str) -> TaskRecord:
        data = self.data(dataset)
        settings = {key: value for key, value in as_json(self.task).items() if key not in self.task.unrecorded}
        return TaskRecord(
            name=self.task_name,
            dataset=dataset,
            metric=self.task.metric,
            source=data.source,
            checksum=data.checksum,
            note=data.note,
            classes=len(data.classes),
            sizes=Sizes(len(data.train), len(data.validation), len(data.test)),
            settings=settings,
        )

    def _setting(self, run: Run) -> tuple[MethodRecord, dict[str, Any], int]:
        return MethodRecord(run.method_name, as_json(run.method)), self.protocol.as_record(), run.seed

    def _result(
        self, run: Run, outcome: Fit, scores: dict[str, float], predictions: list, targets: list, cost: Cost
    ) -> Result:
        method, protocol, seed = self._setting(run)
        selected = next(epoch for epoch in outcome.history if epoch["epoch"] == outcome.selected_epoch)
        return Result(
            backbone=self._backbone_record,
            task=self._task_record(run.dataset),
            method=method,
            protocol=protocol,
            seed=seed,
            scores=Scores(scores, selected["validation"], outcome.selected_epoch),
            history=tuple(Epoch(**epoch) for epoch in outcome.history),
            predictions=tuple(predictions),
            targets=tuple(targets),
            cost=cost,
            environment=self._environment,
            created=now(),
        )


def _cost(learner: Learner, outcome: Fit, memory: PeakMemory, prefix_seconds: float, test_seconds: float) -> Cost:
    sizes = {name: parameter.numel() for name, parameter in learner.trainable().items()}
    head = sum(size for name, size in sizes.items() if name.startswith("head."))
    return Cost(
        trainable_parameters=sum(sizes.values()) - head,
        head_parameters=head,
        adapter_bytes=adapter.adapter_bytes(learner),
        adapted_from_block=learner.frozen_blocks,
        frozen_prefix_seconds=prefix_seconds,
        train_seconds=outcome.train_seconds,
        evaluation_seconds=outcome.evaluation_seconds + test_seconds,
        examples_per_second=outcome.examples / outcome.train_seconds,
        peak_memory_bytes=memory.bytes,
        peak_memory_kind=memory.kind,
    )
