"""A sweep of toys as arguments, and what came of one as its records say."""

from __future__ import annotations

import json
from pathlib import Path

from zipeft.results import Failure, Result, Trial, read_records

TOY = ["--backbone", "toy", "--task", "toy", "--device", "cpu", "--epochs", "1", "--seeds", "2", "--trials", "2"]


def records(folder="results") -> dict[type, list]:
    found, broken = read_records([Path(folder)])
    assert not broken
    return {kind: [r for r in found.values() if isinstance(r, kind)] for kind in (Result, Trial, Failure)}


def outcomes(folder: Path) -> dict[str, object]:
    """Return what came of every training by its id, times and dates aside."""
    found, broken = read_records([folder])
    assert not broken
    kept = {}
    for record in found.values():
        assert (record.kind, record.id) not in kept, "the same training is on record twice"
        content = json.loads(json.dumps(record.to_json()))
        for name in ("cost", "environment", "created", "sha256"):
            content.pop(name, None)
        for tried in content.get("search", ()):
            del tried["train_seconds"]
        kept[record.kind, record.id] = content
    return kept
