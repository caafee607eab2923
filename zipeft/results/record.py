"""The record of a run: what decided it, what it scored, what it cost and where it came from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from zipeft.errors import UserError
from zipeft.results.environment import Environment
from zipeft.results.identity import RESULT_VERSION, run_id
from zipeft.results.schema import decode

SCHEMA = 1
"""Version of the file's layout."""

PROTOCOL_FIELDS = ("preset", "epochs", "batch_size", "optimizer", "schedule", "warmup", "precision", "selection")
"""What every protocol says; it may say more."""

MEMORY_KINDS = ("resident set", "cuda allocated")


@dataclass(frozen=True)
class BackboneRecord:
    """The frozen model. ``parameters`` counts all of it, without head and method."""

    name: str
    checkpoint: str
    source: str
    checksum: str
    parameters: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Examples in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class TaskRecord:
    """One data set of a task. ``metric`` names the score that selects and ranks, a fraction (1.0 is perfect)."""

    name: str
    dataset: str
    metric: str
    source: str
    checksum: str
    note: str
    classes: int
    sizes: Sizes
    settings: dict[str, Any]


@dataclass(frozen=True)
class MethodRecord:
    """A method and its settings."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Scores:
    """Named scores of the selected epoch on each split."""

    test: dict[str, float]
    validation: dict[str, float]
    selected_epoch: int


@dataclass(frozen=True)
class Epoch:
    """Mean training loss and validation scores after one epoch."""

    epoch: int
    train_loss: float
    validation: dict[str, float]


@dataclass(frozen=True)
class Cost:
    """What a run cost. ``trainable_parameters`` leaves out the head; ``adapter_bytes`` is the saved file with the head.

    ``train_seconds`` is spent in optimiser steps; it holds neither ``evaluation_seconds`` nor the
    ``frozen_prefix_seconds`` that went into activations of the frozen blocks below ``adapted_from_block``.
    """

    trainable_parameters: int
    head_parameters: int
    adapter_bytes: int
    adapted_from_block: int
    frozen_prefix_seconds: float
    train_seconds: float
    evaluation_seconds: float
    examples_per_second: float
    peak_memory_bytes: int
    peak_memory_kind: str


@dataclass(frozen=True)
class Result:
    """One run. ``predictions`` and ``targets`` hold one JSON value an example of the test split, in its order."""

    backbone: BackboneRecord
    task: TaskRecord
    method: MethodRecord
    protocol: dict[str, Any]
    seed: int
    scores: Scores
    history: tuple[Epoch, ...]
    predictions: tuple[Any, ...]
    targets: tuple[Any, ...]
    cost: Cost
    environment: Environment
    created: str
    version: int = RESULT_VERSION

    @property
    def id(self) -> str:
        """16 hexadecimal digits: the hash of what decides this result."""
        return run_id(self.backbone, self.task, self.method, self.protocol, self.seed, self.version)

    @property
    def score(self) -> float:
        """The task's metric on the test split, a fraction."""
        return self.scores.test[self.task.metric]

    @property
    def when(self) -> datetime:
        """The time of ``created``."""
        return _utc(self.created)

    def to_json(self) -> dict[str, Any]:
        """Return the content of this result's file."""
        return {"schema": SCHEMA, "id": self.id, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> Result:
        """Return the checked result. Raises ``UserError``, in one line that names the field."""
        if not isinstance(data, Mapping):
            raise UserError("a result must be a JSON object")
        if data.get("schema") != SCHEMA or isinstance(data["schema"], bool):
            raise UserError(f"schema is {data.get('schema')!r}; this version of zipeft reads schema {SCHEMA}")
        result = decode(cls, {key: value for key, value in data.items() if key not in ("schema", "id")})
        for problem in _problems(result):
            raise UserError(problem)
        if data.get("id") != result.id:
            raise UserError(f"id is {data.get('id')!r}, but the content has id {result.id}: the file was edited")
        return result


def _problems(result: Result) -> Iterator[str]:
    """Yield what is wrong with a result whose fields have the right types."""
    for name in PROTOCOL_FIELDS:
        if name not in result.protocol:
            yield f"protocol.{name} is missing"
    for split in ("test", "validation"):
        score = getattr(result.scores, split).get(result.task.metric)
        if score is None:
            yield f"scores.{split}.{result.task.metric} is missing"
        elif abs(score) > 1:
            yield f"scores.{split}.{result.task.metric} is {score}; scores are fractions, at most 1"
    for name in ("predictions", "targets"):
        if len(getattr(result, name)) != result.task.sizes.test:
            yield f"{name} has {len(getattr(result, name))} entries for {result.task.sizes.test} test examples"
    if result.scores.selected_epoch not in [epoch.epoch for epoch in result.history]:
        yield f"scores.selected_epoch is {result.scores.selected_epoch}, which history does not have"
    for name, value in dataclasses.asdict(result.cost).items():
        if isinstance(value, float) and value < 0:
            yield f"cost.{name} is {value}; it cannot be negative"
    if result.cost.peak_memory_kind not in MEMORY_KINDS:
        yield f"cost.peak_memory_kind is {result.cost.peak_memory_kind!r}; it is one of {', '.join(MEMORY_KINDS)}"
    try:
        _utc(result.created)
    except ValueError:
        yield f"created is {result.created!r}, not an ISO 8601 time in UTC such as 2026-01-31T12:00:00Z"


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"{text} is not in UTC")
    return time


def now() -> str:
    """Return the time for ``Result.created``."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
