"""Results: one JSON file a run, with what decided it, what it scored, what it cost and where it came from.

A run is one backbone, task, data set, method and seed. Its ``id`` is a hash of all that decides its scores, so an
interrupted sweep finds what it has done, and a changed setting can never overwrite an earlier result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

from zipeft.environment import Environment
from zipeft.environment import environment as environment
from zipeft.errors import UserError
from zipeft.files import safe_name, write_atomically
from zipeft.schema import decode

SCHEMA = 1
"""Version of the file's layout."""

RESULT_VERSION = 1
"""Version of the code that makes results: raised whenever a change of zipeft changes scores at equal settings."""

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


# Identity: what decides a result, and what two results must share to be compared.


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _backbone_key(backbone: BackboneRecord) -> dict[str, Any]:
    return {name: getattr(backbone, name) for name in ("name", "checkpoint", "checksum", "settings")}


def run_id(
    backbone: BackboneRecord,
    task: TaskRecord,
    method: MethodRecord,
    protocol: Mapping[str, Any],
    seed: int,
    version: int = RESULT_VERSION,
) -> str:
    """Return the id of a run, 16 hexadecimal digits, before or after it has run."""
    return _digest(
        {
            "backbone": _backbone_key(backbone),
            "task": {name: getattr(task, name) for name in ("name", "dataset", "checksum", "settings")},
            "method": dataclasses.asdict(method),
            "protocol": protocol,
            "seed": seed,
            "version": version,
        }
    )


def _conditions(result: Result) -> dict[str, Any]:
    """Return what all rows of one table share, on whatever data set."""
    return {
        "backbone": _backbone_key(result.backbone),
        "task": {"name": result.task.name, "settings": result.task.settings},
        "protocol": result.protocol,
        "result_version": result.version,
    }


def _data(result: Result) -> dict[str, str]:
    return {"name": result.task.dataset, "checksum": result.task.checksum, "metric": result.task.metric}


def comparability(result: Result) -> str:
    """Return the hash of all that decides a result but method and seed: results that differ in it are not compared."""
    return _digest({**_conditions(result), "dataset": _data(result)})


def conditions_key(result: Result) -> str:
    """Return ``comparability`` without the data set: it is equal for all data sets of one table."""
    return _digest(_conditions(result))


def differences(a: Result, b: Result) -> list[str]:
    """Return what makes two results incomparable, method and seed apart, as "image_size 56 / 112"."""
    names = [result.task.dataset for result in (a, b)]
    if names[0] == names[1]:
        data: list[dict[str, Any]] = [{f"dataset {names[0]}": _data(result)} for result in (a, b)]
    else:  # then their content differs as a matter of course
        data = [{"dataset": name} for name in names]
    sides = [flatten({**_conditions(result), **side}) for result, side in zip((a, b), data, strict=True)]
    keys = [key for key in sorted({*sides[0], *sides[1]}) if _differ(key, *sides)]
    short = {key: re.sub(r"^protocol\.|^.*?\.settings\.", "", key).replace(".", " ") for key in keys}
    uses = Counter(short.values())
    labels = {key: short[key] if uses[short[key]] == 1 else key for key in keys}
    values = {key: [brief(side[key]) if key in side else "unset" for side in sides] for key in keys}
    return [f"{labels[key]} {' / '.join(values[key])}" for key in keys]


def _differ(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return (key in a) != (key in b) or canonical(a[key]) != canonical(b[key])


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        nested = isinstance(item, Mapping) and item
        flat.update(flatten(item, f"{prefix}{key}.") if nested else {prefix + key: item})
    return flat


def brief(value: Any) -> str:
    """Return a setting as a reader wants it: no quotes, checksums shortened."""
    if isinstance(value, str):
        return value[:8] if re.fullmatch("[0-9a-f]{40,}", value) else value or "none"
    return "none" if value is None else json.dumps(value, sort_keys=True)


# The store.


def result_path(root: Path, result: Result) -> Path:
    """Return where a result is kept under ``root``."""
    folder = f"{safe_name(result.backbone.name)}-{safe_name(result.task.name)}"
    name = f"{safe_name(result.method.name)}-seed{result.seed}-{result.id}.json"
    return Path(root) / folder / safe_name(result.task.dataset) / name


def save_result(root: Path, result: Result) -> Path:
    """Write a result under ``root`` and return its path. Raises ``UserError`` if it would not read back."""
    decode(Result, dataclasses.asdict(result))  # before the id, which cannot be taken of what is not JSON
    content = result.to_json()
    Result.from_json(content)
    # One line a field: short enough to read, and a change shows in a diff where it is.
    lines = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in content.items()]
    path = result_path(root, result)
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return path


def load_result(path: Path) -> Result:
    """Read one result file. Raises ``UserError`` that names the file and the field."""
    try:
        return Result.from_json(json.loads(Path(path).read_bytes()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        _cannot_read(error)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({' '.join(str(error).split())}); delete it and run again") from error


def read_results(roots: Iterable[Path]) -> dict[Path, Result]:
    """Return the results of files and folders (recursively) by path, in the order of the paths."""
    files = {file.resolve(): file for root in roots for file in _json_files(Path(root))}
    return {file: load_result(file) for file in sorted(files.values())}


def _json_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root] if root.exists() else []
    # Not Path.rglob, which passes over a folder that cannot be read as if it were empty.
    walk = os.walk(root, onerror=_cannot_read)
    return [Path(folder, name) for folder, _, names in walk for name in names if name.endswith(".json")]


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from error


def load_results(root: Path) -> list[Result]:
    """Return all results under ``root`` in the order of their paths; none if there is no such folder."""
    return list(read_results([root]).values())


def find(root: Path, run: str) -> Result | None:
    """Return the result with id ``run`` under ``root``, or None if it has not run yet."""
    for path in sorted(Path(root).rglob(f"*-{run}.json")):
        return load_result(path)
    return None
