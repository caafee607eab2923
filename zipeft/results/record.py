"""Records, one JSON file each: of a run, of a trial of the search before it, and of either that failed.

A record says what decided it, what it scored, what it cost and where it came from.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from zipeft.errors import UserError
from zipeft.results.environment import Environment
from zipeft.results.identity import conditions, data_key, digest, file_hash, record_id
from zipeft.results.parts import BackboneRecord, Cost, Epoch, MethodRecord, TaskRecord, Tried, Trivial
from zipeft.results.schema import decode, dotted
from zipeft.results.upgrade import SCHEMA, upgraded

ENVELOPE = ("schema", "kind", "id", "comparability", "sha256")
"""What a file says beside the fields of its record, and what follows from them."""

PROTOCOL_FIELDS = ("preset", "epochs", "batch_size", "optimizer", "schedule", "warmup", "precision", "selection")
"""What every protocol says; it may say more."""

MEMORY_KINDS = ("resident set", "cuda allocated")


@dataclass(frozen=True)
class Record:
    """What every record has. ``seed`` decides initial values and the order of the data."""

    backbone: BackboneRecord
    task: TaskRecord
    method: MethodRecord
    protocol: dict[str, Any]
    seed: int
    environment: Environment
    created: str
    version: int

    kind: ClassVar[str]
    folder: ClassVar[str]
    """Where the folder of a data set keeps this kind."""

    @property
    def which(self) -> str:
        """What tells this record from others of its method, for the name of its file: "seed0"."""
        raise NotImplementedError

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits: the hash of what decides this record."""
        return record_id(self.kind, self.backbone, self.task, self.method, self.protocol, self.seed, self.version)

    @property
    def conditions(self) -> dict[str, Any]:
        """What all rows of one table share, on whatever data set."""
        return conditions(self.backbone, self.task, self.protocol, self.version)

    @cached_property
    def comparability(self) -> str:
        """The hash of all that decides this record but method and seed: records that differ in it are not compared."""
        return digest({**self.conditions, "dataset": data_key(self.task)})

    @cached_property
    def when(self) -> datetime:
        """The time of ``created``."""
        return _utc(self.created)

    def to_json(self) -> dict[str, Any]:
        """Return the content of this record's file."""
        file = {**self.envelope(), **dataclasses.asdict(self)}
        return {**file, "sha256": file_hash(file)}

    def envelope(self) -> dict[str, Any]:
        """Return what a file says first: its layout, and what its record is known by."""
        return {"schema": SCHEMA, "kind": self.kind, "id": self.id, "comparability": self.comparability}

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with a record whose fields have the right types."""
        for name in PROTOCOL_FIELDS:
            if name not in self.protocol:
                yield f"protocol.{name} is missing"
        for name in self.method.space:
            if name not in self.method.settings:
                yield f"method.space has {name!r}, which method.settings lacks"
        try:
            _utc(self.created)
        except ValueError:
            yield f"created is {self.created!r}, not an ISO 8601 time in UTC such as 2026-01-31T12:00:00Z"


@dataclass(frozen=True)
class Trained(Record):
    """What a training leaves on record: the validation scores of the selected epoch, every epoch, and the cost."""

    validation: dict[str, float]
    selected_epoch: int
    history: tuple[Epoch, ...]
    cost: Cost

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _score_problems("validation", self.validation, self.task.metric)
        if self.selected_epoch not in ([epoch.epoch for epoch in self.history] or [0]):  # of none where nothing trains
            yield f"selected_epoch is {self.selected_epoch}, which history does not have"
        for name, value in dataclasses.asdict(self.cost).items():
            if isinstance(value, float) and value < 0:
                yield f"cost.{name} is {value}; it cannot be negative"
        if self.cost.peak_memory_kind not in MEMORY_KINDS:
            yield f"cost.peak_memory_kind is {self.cost.peak_memory_kind!r}; it is one of {', '.join(MEMORY_KINDS)}"


@dataclass(frozen=True)
class Trial(Trained):
    """One trial of a search: trained like a run, scored on validation data alone. ``index`` counts from 0."""

    index: int

    kind: ClassVar[str] = "trial"
    folder: ClassVar[str] = "trials"

    @property
    def which(self) -> str:
        return f"trial{self.index}"


@dataclass(frozen=True)
class Result(Trained):
    """One run: the setting that the search chose, trained from one seed, and tested once.

    ``predictions``, ``targets`` and ``item_scores`` hold one JSON value an example of the test split, in its order. The
    mean of ``item_scores`` is the metric; they are empty where the metric is no mean over examples. ``search`` lists
    the trials, in the order of their drawing; it is empty where nothing was searched. ``trivial`` is None where the
    objective knows no trivial answer, and in files of older versions.
    """

    test: dict[str, float]
    predictions: tuple[Any, ...]
    targets: tuple[Any, ...]
    item_scores: tuple[float, ...]
    search: tuple[Tried, ...]
    trivial: Trivial | None

    kind: ClassVar[str] = "run"
    folder: ClassVar[str] = ""

    @property
    def which(self) -> str:
        return f"seed{self.seed}"

    @property
    def score(self) -> float:
        """The task's metric on the test split, a fraction."""
        return self.test[self.task.metric]

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from _score_problems("test", self.test, self.task.metric)
        for name in ("predictions", "targets", "item_scores"):
            entries = len(getattr(self, name))
            if entries != self.task.sizes.test and (entries or name != "item_scores"):
                yield f"{name} has {entries} entries for {self.task.sizes.test} test examples"
        score = self.test.get(self.task.metric)
        mean = sum(item / len(self.item_scores) for item in self.item_scores)  # statistics.fmean may overflow
        if self.item_scores and score is not None and abs(mean - score) > 1e-6:
            yield f"{dotted('test', self.task.metric)} is {score}, but the mean of item_scores is {mean}"
        for index, tried in enumerate(self.search):
            yield from tried.problems(f"search[{index}]", self.method.space)
        if self.trivial:
            yield from _score_problems("trivial.test", self.trivial.test, self.task.metric)


@dataclass(frozen=True)
class Failure(Record):
    """A trial or run that failed. ``of`` is its kind, ``reason`` one line, ``details`` a traceback or ""."""

    of: str
    reason: str
    details: str

    kind: ClassVar[str] = "failure"
    folder: ClassVar[str] = "failures"

    @property
    def which(self) -> str:
        return self.of

    @cached_property
    def id(self) -> str:
        """The id of what failed."""
        return record_id(self.of, self.backbone, self.task, self.method, self.protocol, self.seed, self.version)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.of not in (Trial.kind, Result.kind):
            yield f"of is {self.of!r}; it is {Trial.kind} or {Result.kind}"


R = TypeVar("R", bound=Record)

KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in (Result, Trial, Failure)}


def from_json(data: Any) -> Record:
    """Return the checked record of a file's content. Raises ``UserError``, in one line that names the field."""
    try:
        return _record(data)
    except RecursionError:  # JSON can be read, or made, that nests deeper than Python calls may
        raise UserError("the content is nested too deeply to be a result") from None


def _record(data: Any) -> Record:
    if not isinstance(data, Mapping):
        raise UserError("a result must be a JSON object")
    content, older = upgraded(data)
    fields = {name: value for name, value in content.items() if name not in ENVELOPE}
    record = decode(_class_of(content), fields)
    for problem in record.problems():
        raise UserError(problem)
    if not older:
        _check_envelope(content, record)
    return record


def checked(record: R) -> R:
    """Return a record as its file would give it back. Raises ``UserError`` if it would not read back."""
    # Decoded before its hashes are taken: they cannot be taken of what is not JSON, and 1 and 1.0 have different ones.
    return from_json(decode(type(record), dataclasses.asdict(record)).to_json())  # type: ignore[return-value]  # of the same class


def _class_of(content: Mapping[str, Any]) -> type[Record]:
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"kind is {reprlib.repr(kind)}; it is one of {', '.join(KINDS)}")
    return KINDS[kind]


def _check_envelope(content: Mapping[str, Any], record: Record) -> None:
    right = record.envelope()
    for name in ENVELOPE:
        if name not in content:
            raise UserError(f"{name} is missing")
        # The hash comes last: by then all of the content is known to be JSON, of which one can be taken.
        expected = right[name] if name in right else file_hash(content)
        if content[name] != expected:
            value = reprlib.repr(content[name])
            raise UserError(f"{name} is {value}, but the content has {expected}: the file was edited")


def _score_problems(split: str, scores: Mapping[str, float], metric: str) -> Iterator[str]:
    score = scores.get(metric)
    if score is None:
        yield f"{dotted(split, metric)} is missing"
    elif abs(score) > 1:
        yield f"{dotted(split, metric)} is {score}; scores are fractions, at most 1"


def _utc(text: str) -> datetime:
    time = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    if time.utcoffset() != timedelta(0):
        raise ValueError(f"{text} is not in UTC")
    return time


def now() -> str:
    """Return the time for ``Result.created``."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
