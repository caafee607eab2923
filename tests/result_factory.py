"""Makes results for tests, without training anything."""

from __future__ import annotations

import dataclasses
from typing import Any

from zipeft.results import (
    BackboneRecord,
    Cost,
    Environment,
    Epoch,
    MethodRecord,
    Result,
    Scores,
    Sizes,
    TaskRecord,
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
}
CLASSES = {"icons": 83, "typefaces": 29}


def make_result(
    method: str = "lora",
    dataset: str = "icons",
    seed: int = 0,
    score: float = 0.5,
    *,
    settings: dict[str, Any] | None = None,
    protocol: dict[str, Any] | None = None,
    parameters: int = 147_456,
    created: str = "2026-01-31T12:00:00Z",
    **changes: Any,
) -> Result:
    """Return a result. A change is a value for a dotted field: ``**{"task.note": "x"}``."""
    head = 385 * CLASSES.get(dataset, 10)
    result = Result(
        backbone=BackboneRecord("vit", "focus_small", "carrier pack 0.1.1", "ab" * 32, 22_060_000, {"frozen": True}),
        task=TaskRecord(
            name="fgvc",
            dataset=dataset,
            metric="accuracy",
            source="carrier drawings 1.4.2",
            checksum="cd" * 32,
            note=f"What was taken of {dataset}.",
            classes=CLASSES.get(dataset, 10),
            sizes=Sizes(train=779, validation=100, test=4),
            settings={"image_size": 84},
        ),
        method=MethodRecord(method, settings or {"learning_rate": 0.001}),
        protocol=protocol or PROTOCOL,
        seed=seed,
        scores=Scores({"accuracy": score}, {"accuracy": score}, 2),
        history=(Epoch(1, 2.5, {"accuracy": score / 2}), Epoch(2, 1.5, {"accuracy": score})),
        predictions=(0, 1, 2, 3),
        targets=(0, 1, 2, 0),
        cost=Cost(parameters, head, 4 * (parameters + head), 0, 2.0, 38.0, 4.0, 90.0, 1_210_000_000, "resident set"),
        environment=Environment({"python": "3.11.4", "torch": "2.14.1"}, "0f" * 20, False, "cpu", "A CPU", 2, "run it"),
        created=created,
    )
    for name, value in changes.items():
        result = _changed(result, name.split("."), value)
    return result


def _changed(record: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _changed(getattr(record, path[0]), path[1:], value)
    return dataclasses.replace(record, **{path[0]: value})
