"""What makes a row, and what it is called: a method, the settings that no search chose, and the search space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zipeft.formatting import significant
from zipeft.leaderboard.sections import grouped
from zipeft.results import Result
from zipeft.results.differences import brief, flatten
from zipeft.results.identity import canonical


def method_key(result: Result) -> str:
    """Return the text that is equal for results of the same row."""
    return canonical([result.method.name, result.method.fixed, result.method.space])


def method_labels(results: Iterable[Result]) -> dict[str, str]:
    """Return a label by ``method_key``: the name, and if a name has several rows, the settings that differ. Of a row
    whose record leaves a setting out, as it is at its default, nothing is said."""
    variants = grouped({method_key(result): result for result in results}.values(), lambda result: result.method.name)
    labels = {}
    for name, group in variants.items():
        values = {method_key(result): {**fixed(result), **space(result)} for result in group}
        names = sorted({k for said in values.values() for k in said})
        differing = [k for k in names if len({said.get(k) for said in values.values()}) > 1]
        for key, said in values.items():
            words = ", ".join(f"{k}={said[k]}" for k in differing if k in said)
            labels[key] = f"{name} ({words})" if words else name
    return labels


def fixed(result: Result) -> dict[str, str]:
    """Return the settings that no search chose, in words."""
    return {name: brief(value) for name, value in flatten(result.method.fixed).items()}


def space(result: Result) -> dict[str, str]:
    """Return in what each searched setting was searched, in words."""
    return {name: _dimension(dimension) for name, dimension in result.method.space.items()}


def chosen(result: Result) -> dict[str, str]:
    """Return the settings that the search chose, in words."""
    settings = {name: result.method.settings[name] for name in result.method.space}
    return {
        name: significant(value) if isinstance(value, float) else brief(value)
        for name, value in flatten(settings).items()
    }


def _dimension(dimension: Any) -> str:
    match dimension:
        case {"low": float() | int() as low, "high": float() | int() as high}:
            scale = " (logarithmic)" if dimension.get("log") else ""
            return f"{significant(low)} to {significant(high)}{scale}"
        case {"values": [*values]}:
            return " or ".join(map(brief, values))
    return brief(dimension)


def spoken(settings: Mapping[str, str]) -> str:
    """Return settings as "rank 8, alpha 16"."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())
