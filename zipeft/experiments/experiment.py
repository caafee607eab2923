"""One comparison: a backbone and a task, on which methods are measured, one run at a time."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device, set_seed
from torch import Tensor, nn

from zipeft.adapters import saved
from zipeft.api import search
from zipeft.api.backbone import Backbone
from zipeft.api.data import Data, Split
from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.protocol import Protocol
from zipeft.api.sealed import TestKey, TestLocked, training
from zipeft.api.search import Space
from zipeft.api.settings import as_json
from zipeft.api.task import Task
from zipeft.results import (
    RESULT_VERSION,
    BackboneRecord,
    Cost,
    Epoch,
    Failure,
    MethodRecord,
    Record,
    Result,
    Sizes,
    TaskRecord,
    Trained,
    Trial,
    Tried,
    Trivial,
    now,
    record_id,
)
from zipeft.results.environment import Environment, current_environment
from zipeft.training import stopwatch
from zipeft.training.costs import PeakMemory, count_flops
from zipeft.training.dataset import Encoded, fits
from zipeft.training.loop import Fit, Trainer
from zipeft.training.stopwatch import NOTHING, Spent

log = logging.getLogger(__name__)

WORK = ("epochs", "batch_size", "max_steps", "precision")
"""What of a protocol decides how much work a training is."""


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
        self._prefixes: dict[tuple, tuple[list[Tensor], Spent]] = {}
        self._task_records: dict[str, TaskRecord] = {}
        self.data = lru_cache(maxsize=1)(lambda dataset: self.task.load_for(dataset, self.backbone))
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

    def lasts_as_long_as(self, record: Record) -> bool:
        """Whether what is on record was as much work as it would be here, on the same kind of device. Needs weights."""
        here, there = self._backbone_record, record.backbone
        return (
            (here.checkpoint, here.checksum, here.settings) == (there.checkpoint, there.checksum, there.settings)
            and self._task_settings == record.task.settings
            and all(getattr(self.protocol, name) == record.protocol.get(name) for name in WORK)
            and record.environment.device.partition(":")[0] == self.accelerator.device.type
        )

    def measure(self, run: Run, on_step: Callable[[int], None] = lambda steps: None) -> tuple[Trained, Learner]:
        """Train, and test once unless it is a trial; return the record and what has learnt.

        Raises: ``UserError`` if the method does not go with the backbone, or the loss is not finite.
        """
        self.prepare(run.dataset)
        key = TestKey(str(run))
        try:
            with training(str(run)):
                learner, trained = self._train(run, on_step)
            if run.trial is not None:
                return Trial(**trained, index=run.trial), learner
            key.chosen(f"epoch {trained['selected_epoch']}")
            return self._test(run, learner, key, trained), learner
        finally:
            self.accelerator.free_memory()  # it holds what it has prepared, which the next run's peak would count

    def failure(self, run: Run, reason: str, details: str = "") -> Failure:
        """Return the record of a run that failed."""
        return Failure(**self._head(run), of=run.kind.kind, reason=reason, details=details)

    def _train(self, run: Run, on_step: Callable[[int], None]) -> tuple[Learner, dict[str, Any]]:
        """Train once; return what has learnt and what a trial and a run both say of it."""
        data, encoded = self.data(run.dataset), self._drawn(run)
        set_seed(run.seed)
        learner = self._learner(run, data, encoded["train"])
        train, validation, prefixes = self._with_prefixes(run, learner, encoded)
        flops = count_flops(learner, self._objective(run), train, self.accelerator.device, self.protocol.batch_size)
        with PeakMemory(self.accelerator.device) as memory:
            outcome = self._trainer(run).fit(learner, run.method, train, validation, run.seed, on_step)
        return learner, {
            **self._head(run),
            "validation": outcome.validation,
            "selected_epoch": outcome.selected_epoch,
            "history": tuple(Epoch(**epoch) for epoch in outcome.history),
            "cost": _cost(learner, train, outcome, memory, prefixes, flops),
        }

    def _test(self, run: Run, learner: Learner, key: TestKey, trained: dict[str, Any]) -> Result:
        """Test what has learnt, once, and return the run's record."""
        encoded, objective, trainer = self._encoded(run.dataset), self._objective(run), self._trainer(run)
        test = encoded["test"].open(key)
        shifted = {name: split.open(key) for name, split in encoded["shifted"].items()}
        start = stopwatch.now()
        with training(str(run)):  # the method's code runs here too, and could look the answers up
            scores, predictions = trainer.evaluate(learner, test)
            for name, split in shifted.items():
                there, _ = trainer.evaluate(learner, split)
                scores |= {f"{name} {score}": value for score, value in there.items()}
        seconds = trained["cost"].evaluation_seconds + (stopwatch.now() - start).wall
        targets = test.split.targets
        return Result(
            **{**trained, "cost": replace(trained["cost"], evaluation_seconds=seconds)},
            test=scores,
            predictions=tuple(map(objective.record, predictions)),
            targets=tuple(map(objective.record, targets)),
            item_scores=tuple(objective.item_scores(predictions, targets)),
            search=run.search,
            trivial=self._trivial(run, {"": test, **shifted}),
        )

    def _trivial(self, run: Run, splits: dict[str, Encoded]) -> Trivial | None:
        """Return what the trivial answer, which the training targets decide, scores on opened test splits by name."""
        data, scores = self.data(run.dataset), {}
        train = data.train.targets
        if data.draw:
            train = [train[index] for index in data.draw(run.seed)[0]]
        try:
            answer = self.task.objective(run.dataset, data.classes).trivial(train, data.classes)
            if answer is None:
                return None
            for name, split in splits.items():
                windows = (own for own, _ in split.by_example([None] * len(split)))
                there = answer.scores(windows, split.split.targets)
                scores |= {f"{name} {score}".strip(): value for score, value in there.items()}
        except Exception as error:  # a plug-in's objective may inherit an answer that does not suit it
            log.warning("%s: no trivial answer is scored: %s", run.dataset, error)
            return None
        return Trivial(answer.words, scores)

    def adapter_record(self, run: Run) -> dict[str, Any]:
        """Return what is saved beside the run's adapter."""
        method, task = (run.method_name, run.method), (self.task_name, self.task)
        classes = list(self.data(run.dataset).classes)
        return saved.adapter_record(self.backbone_name, self.backbone, method, task, run.dataset, classes)

    def _encode(self, dataset: str) -> dict[str, Any]:
        """Return training and validation data encoded, and the test data too, but sealed."""
        data, windows = self.data(dataset), self.task.windows(self.backbone)
        self._prefixes.clear()

        def encode(split: Split) -> Encoded:
            return Encoded(split, windows, self.backbone)

        train, validation = encode(data.train), encode(data.validation)
        for test in (data.test, *data.shifted.values()):
            test.convert(lambda split: _unlike(validation, encode(split), dataset))
        return {"train": train, "validation": validation, "test": data.test, "shifted": data.shifted}

    def _objective(self, run: Run) -> Objective:
        return run.method.objective(self.task.objective(run.dataset, self.data(run.dataset).classes))

    def _trainer(self, run: Run) -> Trainer:
        return Trainer(self._objective(run), self.protocol, self.accelerator)

    def _learner(self, run: Run, data: Data, train: Encoded) -> Learner:
        model, objective = copy.deepcopy(self.model), self._objective(run)
        learner = run.method.learner(self.backbone, model, objective, data.classes).to(self.accelerator.device)
        learner.find_prefix(send_to_device(train.batch(2), self.accelerator.device))
        return learner

    def _drawn(self, run: Run) -> dict[str, Encoded]:
        """Return the training and validation data that a run takes."""
        data, encoded = self.data(run.dataset), self._encoded(run.dataset)
        if data.draw is None:
            return encoded
        taken = data.draw(run.seed)
        return {
            name: encoded[name].subset(indices) for name, indices in zip(("train", "validation"), taken, strict=True)
        }

    def _with_prefixes(self, run: Run, learner: Learner, encoded: dict[str, Any]):
        """Return training and validation data with their frozen prefix, if there is one and memory for it."""
        splits, total = [], NOTHING
        for name in ("train", "validation"):
            prefix, spent = self._prefix(run, name, learner, encoded[name])
            total += spent
            needs_inputs = not learner.only_head_trains
            splits.append(encoded[name] if prefix is None else encoded[name].with_prefix(prefix, needs_inputs))
        return *splits, total

    def _prefix(self, run: Run, split: str, learner: Learner, data: Encoded) -> tuple[list[Tensor] | None, Spent]:
        """Return the prefix of a split, and the time that it took to compute.

        Runs that are frozen up to the same place share it; the first batch is computed anew and compared, lest a
        method has changed a frozen layer after all.
        """
        if not learner.has_prefix or not learner.trainable():
            return None, NOTHING
        learner.eval()
        first = self._compute(learner, data, batches=1)
        drawn = run.seed if self.data(run.dataset).draw else None
        key = (split, drawn, learner.frozen_blocks, learner.only_head_trains)
        known = self._prefixes.get(key)
        if known is not None and all(torch.equal(known[0][index], part) for index, part in first.items()):
            return known
        if not fits(_bytes_of_all(first, data)):
            return None, NOTHING
        start = stopwatch.now()
        computed = self._compute(learner, data)
        prefix = [computed[index] for index in range(len(data))]
        self._prefixes = {key: kept for key, kept in self._prefixes.items() if key[0] != split}
        self._prefixes[key] = prefix, stopwatch.now() - start
        return self._prefixes[key]

    def _compute(self, learner: Learner, data: Encoded, batches: int | None = None) -> dict[int, Tensor]:
        """Return the prefix of each window by its index, for all or for the first few batches, without padding."""
        parts: dict[int, Tensor] = {}
        order = iter(data.order())
        with self.accelerator.autocast():
            for batch in islice(data.loader(self.protocol.batch_size), batches):
                hidden = learner.prefix(send_to_device(batch["inputs"], self.accelerator.device)).cpu()
                for row, index in zip(hidden, islice(order, len(hidden)), strict=True):
                    parts[index] = row[: data.lengths[index]] if data.lengths and row.dim() > 1 else row
        return parts

    @cached_property
    def _environment(self) -> Environment:
        return current_environment(self.command, str(self.accelerator.device))

    @cached_property
    def _backbone_record(self) -> BackboneRecord:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        weights = self.backbone.weights()  # after the model: the checksum of downloaded weights is known then
        settings = as_json(self.backbone)
        del settings["checkpoint"]  # it may be a path; the record has its name and its checksum
        identity = (weights.checkpoint, weights.source, weights.checksum)
        return BackboneRecord(self.backbone_name, *identity, parameters=parameters, settings=settings)

    def _task_record(self, dataset: str) -> TaskRecord:
        if dataset not in self._task_records:
            self._task_records[dataset] = self._describe(dataset)
        return self._task_records[dataset]

    def _describe(self, dataset: str) -> TaskRecord:
        data = self.data(dataset)
        return TaskRecord(
            name=self.task_name,
            dataset=dataset,
            metric=self.task.objective(dataset, data.classes).metric,
            source=data.source,
            checksum=data.checksum,
            note=data.note,
            classes=len(data.classes),
            sizes=Sizes(*data.counts()),
            settings=self._task_settings,
        )

    @property
    def _task_settings(self) -> dict[str, Any]:
        return {key: value for key, value in as_json(self.task).items() if key not in self.task.unrecorded}

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
    if test.kept is None or validation.kept is None:
        return test
    seen = {_content(window.inputs) for window in validation.kept}
    shared = sum(_content(window.inputs) in seen for window in test.kept)
    if 2 * shared > len(test):
        raise TestLocked(
            f"{dataset}: {shared} of {len(test)} test examples are validation examples under another name: "
            "a choice made on them would be made on test data"
        )
    return test


def _bytes_of_all(some: dict[int, Tensor], data: Encoded) -> int:
    """Return how many bytes all of a split's prefixes take, from a few of them."""
    values = sum(part.nbytes for part in some.values())
    if not data.lengths or next(iter(some.values())).dim() == 1:
        return values // len(some) * len(data)
    return values * sum(data.lengths) // sum(data.lengths[index] for index in some)


def _content(inputs: Any) -> bytes:
    """Return a digest of encoded inputs: a tensor, or tensors in a dict or a list."""
    if isinstance(inputs, Tensor):
        return hashlib.sha256(inputs.contiguous().numpy().tobytes()).digest()
    return b"".join(map(_content, inputs.values() if isinstance(inputs, dict) else inputs))


def _cost(
    learner: Learner,
    train: Encoded,
    outcome: Fit,
    memory: PeakMemory,
    prefixes: Spent,
    flops: tuple[int, int],
) -> Cost:
    rate = outcome.examples / outcome.training.wall if outcome.steps else 0.0
    sizes = {name: parameter.numel() for name, parameter in learner.trainable().items()}
    head = sum(size for name, size in sizes.items() if name.startswith("head."))
    return Cost(
        trainable_parameters=sum(sizes.values()) - head,
        head_parameters=head,
        adapter_bytes=saved.adapter_bytes(learner),
        adapted_from_block=learner.frozen_blocks,
        frozen_prefix_seconds=prefixes.wall,
        train_seconds=outcome.training.wall,
        cpu_seconds=prefixes.cpu + outcome.training.cpu,
        threads=torch.get_num_threads(),
        steps=outcome.steps,
        evaluation_seconds=outcome.evaluation.wall,
        examples_per_second=rate,
        peak_memory_bytes=memory.bytes,
        peak_memory_kind=memory.kind,
        tokens_per_second=rate * fmean(train.lengths) if outcome.steps and train.lengths else None,
        training_flops=flops[0],
        inference_flops=flops[1],
    )
