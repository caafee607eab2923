"""Identity: what decides a result, and what two results must share to be compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from zipeft.results.parts import BackboneRecord, MethodRecord, TaskRecord

RESULT_VERSION = 1
"""Version of the code that makes results: raised whenever a change of zipeft changes scores at equal settings."""


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _backbone_key(backbone: BackboneRecord) -> dict[str, Any]:
    return {name: getattr(backbone, name) for name in ("name", "checkpoint", "checksum", "settings")}


def file_hash(file: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file's content, without its own entry ``sha256``: a file edited by hand shows."""
    return hashlib.sha256(canonical({k: v for k, v in file.items() if k != "sha256"}).encode()).hexdigest()


def record_id(
    kind: str,
    backbone: BackboneRecord,
    task: TaskRecord,
    method: MethodRecord,
    protocol: Mapping[str, Any],
    seed: int,
    version: int = RESULT_VERSION,
) -> str:
    """Return the id of a trial or run, 16 hexadecimal digits, before or after it has run."""
    return digest(identity(kind, backbone, task, method, protocol, seed, version))


def identity(
    kind: str,
    backbone: BackboneRecord,
    task: TaskRecord,
    method: MethodRecord,
    protocol: Mapping[str, Any],
    seed: int,
    version: int = RESULT_VERSION,
) -> dict[str, Any]:
    """Return what decides a trial or run, of which its id is the hash."""
    return {
        "kind": kind,
        "backbone": _backbone_key(backbone),
        "task": {name: getattr(task, name) for name in ("name", "dataset", "checksum", "settings")},
        "method": dataclasses.asdict(method),
        "protocol": protocol,
        "seed": seed,
        "version": version,
    }


def conditions(backbone: BackboneRecord, task: TaskRecord, protocol: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Return what all rows of one table share, on whatever data set."""
    return {
        "backbone": _backbone_key(backbone),
        "task": {"name": task.name, "settings": task.settings},
        "protocol": protocol,
        "result_version": version,
    }


def data_key(task: TaskRecord) -> dict[str, str]:
    """Return what all rows of a table share on one data set."""
    return {"name": task.dataset, "checksum": task.checksum, "metric": task.metric}
