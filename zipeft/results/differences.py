"""What makes two records incomparable, in the words of a page."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from zipeft.results.identity import canonical, data_key, digest
from zipeft.results.record import Record


def conditions_key(record: Record) -> str:
    """Return the hash of what all rows of one table share: it is equal for all data sets of a table."""
    return digest(record.conditions)


def differences(a: Record, b: Record) -> list[str]:
    """Return what makes two results incomparable, method and seed apart, as "image_size 56 / 112"."""
    names = [result.task.dataset for result in (a, b)]
    if names[0] == names[1]:
        data: list[dict[str, Any]] = [{f"dataset {names[0]}": data_key(result.task)} for result in (a, b)]
    else:  # then their content differs as a matter of course
        data = [{"dataset": name} for name in names]
    sides = [flatten({**result.conditions, **side}) for result, side in zip((a, b), data, strict=True)]
    keys = [key for key in sorted({*sides[0], *sides[1]}) if _differ(key, *sides)]
    short = {key: re.sub(r"^protocol\.|^.*?\.settings\.", "", key).replace(".", " ") for key in keys}
    uses = Counter(short.values())
    labels = {key: short[key] if uses[short[key]] == 1 else key for key in keys}
    return [f"{labels[key]} {_both(key, *sides)}" for key in keys]


def unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, str]:
    """Return where nested mappings differ and how, by dotted keys: {"protocol.epochs": "3 / 10"}."""
    sides = flatten(a), flatten(b)
    return {key: _both(key, *sides) for key in sorted({*sides[0], *sides[1]}) if _differ(key, *sides)}


def _both(key: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    return " / ".join(brief(side[key]) if key in side else "unset" for side in (a, b))


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
