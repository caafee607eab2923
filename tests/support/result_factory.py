"""Makes results for tests, without training anything."""

from __future__ import annotations

import dataclasses
from typing import Any

from zipeft.results import (
    RESULT_VERSION,
    BackboneRecord,
    Cost,
    Environment,
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
)

PROTOCOL = {
    "preset": "quick",
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "AdamW",
    "schedule": "cosine",
    "warmup": 0.1,
    "precision": "fp32",
    "selection": "best validation epoch",
    "trials": 0,
}
CLASSES = {"icons": 83, "typefaces": 29}


def make_result(
    method: str = "lora",
    dataset: str = "icons",
    seed: int = 0,
    score: float = 0.5,
    *,
    settings: dict[str, Any] | None = None,
    space: dict[str, Any] | None = None,
    protocol: dict[str, Any] | None = None,
    parameters: int = 147_456,
    created: str = "2026-01-31T12:00:00Z",
    items: int = 4,
    **changes: Any,
) -> Result:
    """Return a result on ``items`` test examples. A change is a value for a dotted field: ``**{"task.note": "x"}``.

    Every item scores ``score``, so that any score can be had from few of them. With a space there was a search of two
    trials. A change of ``test`` leaves no ``item_scores``, which would contradict it.
    """
    result = Result(
        **_shared(method, dataset, items, settings, space, protocol, parameters),
        seed=seed,
        created=created,
        validation={"accuracy": score},
        test={"accuracy": score},
        predictions=tuple(range(items)),
        targets=(*range(items - 1), 0),
        item_scores=() if "test" in changes else (score,) * items,
        search=tuple(Tried(f"{index:016x}", dict.fromkeys(space, 0.001), 0.4, 38.0, "") for index in range(2))
        if space
        else (),
        trivial=Trivial("majority class", {changes.get("task.metric", "accuracy"): 0.05}),
    )
    return _with(result, changes)


def make_trial(
    method: str = "lora", dataset: str = "icons", index: int = 0, score: float = 0.5, **changes: Any
) -> Trial:
    """Return a trial; changes as in ``make_result``."""
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    trial = Trial(
        **_shared(method, dataset, 4, None, space, None, 147_456),
        seed=1000,
        created="2026-01-31T11:00:00Z",
        validation={"accuracy": score},
        index=index,
    )
    return _with(trial, changes)


def make_failure(failed: Trained, reason: str = "the loss is not finite", **changes: Any) -> Failure:
    """Return the failure that there would be in place of a result or trial; changes as in ``make_result``."""
    shared = {field.name: getattr(failed, field.name) for field in dataclasses.fields(Record)}
    return _with(Failure(**shared, of=failed.kind, reason=reason, details=""), changes)


def _shared(
    method: str,
    dataset: str,
    items: int,
    settings: dict[str, Any] | None,
    space: dict[str, Any] | None,
    protocol: dict[str, Any] | None,
    parameters: int,
) -> dict[str, Any]:
    head = 385 * CLASSES.get(dataset, 10)
    return {
        "backbone": BackboneRecord("vit", "focus_small", "carrier pack 0.1.1", "ab" * 32, 22_060_000, {"frozen": True}),
        "task": TaskRecord(
            name="fgvc",
            dataset=dataset,
            metric="accuracy",
            source="carrier drawings 1.4.2",
            checksum="cd" * 32,
            note=f"What was taken of {dataset}.",
            classes=CLASSES.get(dataset, 10),
            sizes=Sizes(train=779, validation=100, test=items),
            settings={"image_size": 84},
        ),
        "method": MethodRecord(method, settings or {"learning_rate": 0.001}, space or {}),
        "protocol": protocol or PROTOCOL,
        "version": RESULT_VERSION,
        "selected_epoch": 2,
        "history": (Epoch(1, 2.5, {"accuracy": 0.25}), Epoch(2, 1.5, {"accuracy": 0.5})),
        "cost": Cost(
            trainable_parameters=parameters,
            head_parameters=head,
            adapter_bytes=4 * (parameters + head),
            adapted_from_block=0,
            frozen_prefix_seconds=2.0,
            train_seconds=38.0,
            cpu_seconds=76.0,
            threads=2,
            steps=250,
            evaluation_seconds=4.0,
            examples_per_second=90.0,
            peak_memory_bytes=1_210_000_000,
            peak_memory_kind="resident set",
            tokens_per_second=4500.0,
            training_flops=9_000_000_000,
            inference_flops=3_000_000_000,
        ),
        "environment": Environment(
            {"python": "3.11.4", "torch": "2.14.1"}, "0f" * 20, False, "cpu", "A CPU", 2, "run it", {}
        ),
    }


def unmeasured(results: list[Result], method: str, *costs: str) -> list[Result]:
    """Return results in which some costs of one method were not measured."""
    return [
        dataclasses.replace(result, cost=dataclasses.replace(result.cost, **dict.fromkeys(costs)))
        if result.method.name == method
        else result
        for result in results
    ]


def _with(record: Any, changes: dict[str, Any]) -> Any:
    for name, value in changes.items():
        record = _changed(record, name.split("."), value)
    return record


def _changed(record: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _changed(getattr(record, path[0]), path[1:], value)
    return dataclasses.replace(record, **{path[0]: value})
