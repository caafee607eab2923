"""Files of older schemas, brought to the present one when they are read: what was published stays readable.

A schema that is superseded adds one step to ``STEPS`` and nothing else: how its files are checked, and how their
content becomes that of the next schema. A step knows its own two schemas alone, so no later change can break it.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

from zipeft.errors import UserError
from zipeft.results.schema import decode

Content = dict[str, Any]


class Step(NamedTuple):
    """``check`` raises ``UserError`` for a file that was edited since it was written; ``upgrade`` returns the content
    in the next schema. Either raises ``UserError`` for a malformed field that it needs; what it hands on as it is, the
    present schema checks."""

    check: Callable[[Content], None]
    upgrade: Callable[[Content], Content]


def upgraded(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return a file's content in the present schema, and whether it came in an older one.

    Raises ``UserError`` for a schema that is not known, and for an older file that is malformed or was edited.
    """
    schema = _schema_of(data)
    if schema == SCHEMA:
        return data, False
    content = decode(Content, data)  # JSON throughout: what follows can take hashes of it
    STEPS[schema - 1].check(content)
    for step in STEPS[schema - 1 :]:
        content = step.upgrade(content)
    return content, True


def _schema_of(data: Mapping[str, Any]) -> int:
    if "schema" not in data:
        raise UserError("schema is missing")
    schema = data["schema"]
    if type(schema) is int and 1 <= schema <= SCHEMA:  # True is no schema, though it equals 1
        return schema
    known = ", ".join(map(str, range(1, SCHEMA + 1)))
    newer = type(schema) is int and schema > SCHEMA
    advice = "; a newer zipeft wrote the file: update zipeft to read it" if newer else ""
    raise UserError(f"schema is {reprlib.repr(schema)}; this version of zipeft reads schemas {known}{advice}")


def _at(content: Content, path: str) -> Any:
    """Return a field by its dotted name. Raises ``UserError`` if it is missing."""
    parent, _, name = path.rpartition(".")
    holder = _object(content, parent) if parent else content
    if name not in holder:
        raise UserError(f"{path} is missing")
    return holder[name]


def _object(content: Content, path: str) -> Content:
    return decode(Content, _at(content, path), path)


# Schema 1 knew runs alone, and no search. Its id was all that held a file together.

DECIDING_1 = {
    "backbone": ("name", "checkpoint", "checksum", "settings"),
    "task": ("name", "dataset", "checksum", "settings"),
    "method": ("name", "settings"),
}
UNMEASURED_1 = ("steps", "training_flops", "inference_flops")


@dataclass(frozen=True)
class _Scores1:
    test: dict[str, float]
    validation: dict[str, float]
    selected_epoch: int


def _check_1(content: Content) -> None:
    decided: Content = {name: _at(content, name) for name in ("protocol", "seed", "version")}
    for part, names in DECIDING_1.items():
        decided[part] = {name: _at(content, f"{part}.{name}") for name in names}
    text = json.dumps(decided, sort_keys=True, separators=(",", ":"))
    right = hashlib.sha256(text.encode()).hexdigest()[:16]
    if (found := _at(content, "id")) != right:
        raise UserError(f"id is {reprlib.repr(found)}, but the content has {right}: the file was edited")


def _from_1(content: Content) -> Content:
    scores = decode(_Scores1, _at(content, "scores"), "scores")
    return {
        **{name: value for name, value in content.items() if name != "scores"},
        **asdict(scores),
        "schema": 2,
        "kind": "run",
        "method": {**_object(content, "method"), "space": {}},
        "protocol": {**_object(content, "protocol"), "trials": 0},
        "cost": {**_object(content, "cost"), **dict.fromkeys(UNMEASURED_1)},
        "item_scores": _item_scores_1(content, scores.test),
        "search": [],
    }


def _item_scores_1(content: Content, test: Mapping[str, float]) -> list[float]:
    """Return what each test example adds to the accuracy; nothing where another metric decides, or they disagree."""
    predictions, targets = (decode(tuple[Any, ...], _at(content, name), name) for name in ("predictions", "targets"))
    if _at(content, "task.metric") != "accuracy" or "accuracy" not in test or not 0 < len(predictions) == len(targets):
        return []
    items = [float(prediction == target) for prediction, target in zip(predictions, targets, strict=True)]
    return items if abs(fmean(items) - test["accuracy"]) < 1e-6 else []


# Schema 2 did not count tokens. A hash of all its content held a file together.


def _check_2(content: Content) -> None:
    hashed = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    right = hashlib.sha256(text.encode()).hexdigest()
    if (found := _at(content, "sha256")) != right:
        raise UserError(f"sha256 is {reprlib.repr(found)}, but the content has {right}: the file was edited")


def _from_2(content: Content) -> Content:
    cost = {"cost": {**_object(content, "cost"), "tokens_per_second": None}} if "cost" in content else {}
    return {**content, **cost, "schema": 3}


# Schema 3 knew no losses within an epoch. It was held together as schema 2 was.


def _from_3(content: Content) -> Content:
    if "history" not in content:
        return {**content, "schema": 4}
    epochs = decode(tuple[Content, ...], content["history"], "history")
    return {**content, "history": [{**epoch, "losses": []} for epoch in epochs], "schema": 4}


# Schema 4 knew neither the time of the CPUs nor a trivial answer. It was held together as schema 2 was.


def _from_4(content: Content) -> Content:
    unmeasured = {"cpu_seconds": None, "threads": None}
    cost = {"cost": {**_object(content, "cost"), **unmeasured}} if "cost" in content else {}
    trivial = {"trivial": None} if content.get("kind") == "run" else {}
    return {**content, **cost, **trivial, "schema": 5}


# Schema 5 did not say how a training was carried out. It was held together as schema 2 was.


def _from_5(content: Content) -> Content:
    environment = {**_object(content, "environment"), "execution": {}}
    return {**content, "environment": environment, "schema": 6}


STEPS = (
    Step(_check_1, _from_1),
    Step(_check_2, _from_2),
    Step(_check_2, _from_3),
    Step(_check_2, _from_4),
    Step(_check_2, _from_5),
)
"""One step for each older schema, from 1."""

SCHEMA = len(STEPS) + 1
"""Version of the file's layout."""
