"""Identity: what decides a result, and what two results must share to be compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipeft.results.record import BackboneRecord, MethodRecord, Record, TaskRecord

RESULT_VERSION = 1
"""Version of the code that makes results: raised whenever a change of zipeft changes scores at equal settings."""


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def _backbone_key(backbone: BackboneRecord) -> dict[str, Any]:
    return {name: getattr(backbone, name) for name in ("name", "checkpoint", "checksum", "settings")}


def content_hash(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a file's content, without its own entry ``sha256``: a file edited by hand shows."""
    return hashlib.sha256(canonical({k: v for k, v in content.items() if k != "sha256"}).encode()).hexdigest()


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
    return _digest(
        {
            "kind": kind,
            "backbone": _backbone_key(backbone),
            "task": {name: getattr(task, name) for name in ("name", "dataset", "checksum", "settings")},
            "method": dataclasses.asdict(method),
            "protocol": protocol,
            "seed": seed,
            "version": version,
        }
    )


def _conditions(result: Record) -> dict[str, Any]:
    """Return what all rows of one table share, on whatever data set."""
    return {
        "backbone": _backbone_key(result.backbone),
        "task": {"name": result.task.name, "settings": result.task.settings},
        "protocol": result.protocol,
        "result_version": result.version,
    }


def _data(result: Record) -> dict[str, str]:
    return {"name": result.task.dataset, "checksum": result.task.checksum, "metric": result.task.metric}


def comparability(result: Record) -> str:
    """Return the hash of all that decides a result but method and seed: results that differ in it are not compared."""
    return _digest({**_conditions(result), "dataset": _data(result)})


def conditions_key(result: Record) -> str:
    """Return ``comparability`` without the data set: it is equal for all data sets of one table."""
    return _digest(_conditions(result))


def differences(a: Record, b: Record) -> list[str]:
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
