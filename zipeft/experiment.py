"""One comparison: a backbone and a task, on which methods are measured, one run at a time."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn

from zipeft import adapter, search
from zipeft.backbone import Backbone
from zipeft.costs import PeakMemory, count_flops
from zipeft.examples import Encoded, fits
from zipeft.learner import Learner
from zipeft.method import Method
from zipeft.protocol import Protocol
from zipeft.results import (
    RESULT_VERSION,
    BackboneRecord,
    Cost,
    Epoch,
    Failure,
    MethodRecord,
    Result,
    Sizes,
    TaskRecord,
    Trained,
    Trial,
    Tried,
    now,
    record_id,
)
from zipeft.results.environment import Environment, current_environment
from zipeft.search import Space
from zipeft.settings import as_json
from zipeft.task import Data, Task
from zipeft.test_lock import TestKey, TestLocked, training
from zipeft.training import Fit, Trainer


@dataclass(frozen=True)
class Run:
    """What is measured at once: a method, with its settings, on a data set from a seed.

    ``space`` is that of the settings that were, or are to be, searched. With a ``trial`` (its index) it is one of the
    search, scored on validation data alone; without, ``search`` says how the trials went whose best this is.
    """

    dataset: str
    method_name: str
    method: Method
    seed: int
    space: Space = field(default_factory=dict)
    trial: int | None = None
    search: tuple[Tried, ...] = ()

    @property
    def kind(self) -> type[Trained]:
        return Result if self.trial is None else Trial

    def __str__(self) -> str:
        what = f"seed {self.seed}" if self.trial is None else f"trial {self.trial + 1}"
        return f"{self.dataset} {self.method_name} {what}"


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
        self._task_records: dict[str, TaskRecord] = {}
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

    def forget(self) -> None:
        """Let go of weights and data; they are loaded again when they are needed."""
        self.__dict__.pop("model", None)
        self.data.cache_clear()
        self._encoded.cache_clear()
        self._prefixes = {}

    def id(self, run: Run) -> str:
        """Return the id of the run's record, before it has run."""
        return record_id(run.kind.kind, **self._deciding(run))

    def measure(self, run: Run, on_step: Callable[[int], None] = lambda steps: None) -> tuple[Trained, Learner]:
        """Train, and test once unless it is a trial; return the record and what has learnt.

        Raises: ``UserError`` if the method does not go with the backbone, or the loss is not finite.
        """
        self.prepare(run.dataset)
        key = TestKey(str(run))
        with training(str(run)):
            learner, trained = self._train(run, on_step)
        if run.trial is not None:
            return Trial(**trained, index=run.trial), learner
        key.chosen(f"epoch {trained['selected_epoch']}")
        test = self._encoded(run.dataset)["test"].open(key)
        start = time.perf_counter()
        with training(str(run)):  # the method's code runs here too, and could look the answers up
            scores, predictions, targets = self.trainer.evaluate(learner, test)
        seconds = trained["cost"].evaluation_seconds + time.perf_counter() - start
        self.accelerator.free_memory()
        tested = Result(
            **{**trained, "cost": replace(trained["cost"], evaluation_seconds=seconds)},
            test=scores,
            predictions=tuple(predictions),
            targets=tuple(targets),
            item_scores=tuple(self.task.item_scores(predictions, targets)),
            search=run.search,
        )
        return tested, learner

    def failure(self, run: Run, reason: str, details: str = "") -> Failure:
        """Return the record of a run that failed."""
        return Failure(**self._head(run), of=run.kind.kind, reason=reason, details=details)

    def _train(self, run: Run, on_step: Callable[[int], None]) -> tuple[Learner, dict[str, Any]]:
        """Train once; return what has learnt and what a trial and a run both say of it."""
        data, encoded = self.data(run.dataset), self._encoded(run.dataset)
        set_seed(run.seed)
        learner = self._learner(run.method, data, encoded["train"])
        train, validation, prefix_seconds = self._with_prefixes(run.dataset, learner, encoded)
        flops = count_flops(learner, self.task, train, self.accelerator.device)
        with PeakMemory(self.accelerator.device) as memory:
            outcome = self.trainer.fit(learner, run.method, train, validation, run.seed, on_step)
        selected = next(epoch for epoch in outcome.history if epoch["epoch"] == outcome.selected_epoch)
        return learner, {
            **self._head(run),
            "validation": selected["validation"],
            "selected_epoch": outcome.selected_epoch,
            "history": tuple(Epoch(**epoch) for epoch in outcome.history),
            "cost": _cost(learner, outcome, memory, prefix_seconds, flops),
        }

    def adapter_record(self, run: Run) -> dict[str, Any]:
        """Return what is saved beside the run's adapter."""
        method, task = (run.method_name, run.method), (self.task_name, self.task)
        classes = list(self.data(run.dataset).classes)
        return adapter.adapter_record(self.backbone_name, self.backbone, method, task, run.dataset, classes)

    def _encode(self, dataset: str) -> dict[str, Any]:
        """Return training and validation data encoded, and the test data too, but sealed."""
        data, encode = self.data(dataset), self.task.encoder(self.backbone)
        self._prefixes.clear()
        splits = {name: Encoded(getattr(data, name), encode) for name in ("train", "validation")}
        data.test.convert(lambda split: _unlike(splits["validation"], Encoded(split, encode), dataset))
        return {**splits, "test": data.test}

    def _learner(self, method: Method, data: Data, train: Encoded) -> Learner:
        model = copy.deepcopy(self.model)
        head = self.task.head(data.classes, self.backbone.width(model))
        method.apply(self.backbone, model)
        learner = Learner(self.backbone, model, head).to(self.accelerator.device)
        learner.find_prefix(send_to_device(train.batch(2), self.accelerator.device))
        return learner

    def _with_prefixes(self, dataset: str, learner: Learner, encoded: dict[str, Any]):
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
        if dataset not in self._task_records:
            self._task_records[dataset] = self._describe(dataset)
        return self._task_records[dataset]

    def _describe(self, dataset: str) -> TaskRecord:
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

    def _deciding(self, run: Run) -> dict[str, Any]:
        """Return all that decides what a run scores."""
        return {
            "backbone": self._backbone_record,
            "task": self._task_record(run.dataset),
            "method": MethodRecord(run.method_name, as_json(run.method), search.as_record(run.space)),
            "protocol": self.protocol.of_run() if run.trial is None else self.protocol.of_trial(),
            "seed": run.seed,
            "version": RESULT_VERSION,
        }

    def _head(self, run: Run) -> dict[str, Any]:
        return {**self._deciding(run), "environment": self._environment, "created": now()}


def _unlike(validation: Encoded, test: Encoded, dataset: str) -> Encoded:
    """Return the test data. Raises ``TestLocked`` if they are, for the most part, validation data under other names.

    Only data that are in memory anyway are compared.
    """
    if test._kept is None or validation._kept is None:
        return test
    seen = set(map(_content, validation._kept))
    shared = sum(_content(inputs) in seen for inputs in test._kept)
    if 2 * shared > len(test):
        raise TestLocked(
            f"{dataset}: {shared} of {len(test)} test examples are validation examples under another name: "
            "a choice made on them would be made on test data"
        )
    return test


def _content(inputs: Any) -> bytes:
    """Return a digest of encoded inputs: a tensor, or tensors in a dict or a list."""
    if isinstance(inputs, Tensor):
        return hashlib.sha256(inputs.contiguous().numpy().tobytes()).digest()
    return b"".join(map(_content, inputs.values() if isinstance(inputs, dict) else inputs))


def _cost(learner: Learner, outcome: Fit, memory: PeakMemory, prefix_seconds: float, flops: tuple[int, int]) -> Cost:
    sizes = {name: parameter.numel() for name, parameter in learner.trainable().items()}
    head = sum(size for name, size in sizes.items() if name.startswith("head."))
    return Cost(
        trainable_parameters=sum(sizes.values()) - head,
        head_parameters=head,
        adapter_bytes=adapter.adapter_bytes(learner),
        adapted_from_block=learner.frozen_blocks,
        frozen_prefix_seconds=prefix_seconds,
        train_seconds=outcome.train_seconds,
        steps=outcome.steps,
        evaluation_seconds=outcome.evaluation_seconds,
        examples_per_second=outcome.examples / outcome.train_seconds,
        peak_memory_bytes=memory.bytes,
        peak_memory_kind=memory.kind,
        training_flops=flops[0],
        inference_flops=flops[1],
    )
