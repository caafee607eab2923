"""The published JSON Schema of result files, made from the records' dataclasses.

It says what a reader in any language can rely on. What it cannot say, that hashes and fields agree with each other, is
checked by ``zipeft validate``.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any

from zipeft.results.record import KINDS, MEMORY_KINDS, PROTOCOL_FIELDS, SCHEMA, Record, Result, Trial
from zipeft.results.schema import field_hints

SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number"},
    Any: {},
}

REFINEMENTS: dict[str, dict[str, Any]] = {
    "created": {"format": "date-time"},
    "of": {"enum": [Trial.kind, Result.kind]},
    "peak_memory_kind": {"enum": list(MEMORY_KINDS)},
    "protocol": {"required": list(PROTOCOL_FIELDS)},
}
"""What the values of a field must be beyond its type, by the field's name."""

Schema = dict[str, Any]


def text() -> str:
    """Return the schema as it is published."""
    return json.dumps(json_schema(), indent=2) + "\n"


def json_schema() -> Schema:
    """Return a schema (draft 2020-12) that all three kinds of record satisfy, and nothing of another layout."""
    parts: dict[str, Schema] = {}
    for kind in KINDS.values():
        _add_object(kind, parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"zipeft result file, schema {SCHEMA}",
        "description": "One record. `zipeft validate` checks, beyond this schema, that hashes and fields agree.",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in KINDS.values()],
        "$defs": dict(sorted(parts.items())),
    }


def _of(hint: Any, parts: dict[str, Schema]) -> Schema:
    """Return the schema of a type hint. Dataclasses go into ``parts`` and are referred to."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        _add_object(hint, parts)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # X | None
        return {"anyOf": [_of(arguments[0], parts), {"type": "null"}]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], parts)}
    if origin is tuple:
        return {"type": "array", "items": _of(arguments[0], parts)}
    return dict(SCALARS[hint])


def _add_object(cls: type, parts: dict[str, Schema]) -> None:
    hints = field_hints(cls)
    properties = {name: {**_of(hint, parts), **REFINEMENTS.get(name, {})} for name, hint in hints.items()}
    if issubclass(cls, Record):
        properties = {**_envelope(cls), **properties}
    parts[cls.__name__] = {
        "description": " ".join((cls.__doc__ or "").replace("``", "`").split()),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _envelope(cls: type[Record]) -> dict[str, Schema]:
    return {
        "schema": {"const": SCHEMA},
        "kind": {"const": cls.kind},
        "id": _hexadecimal(16),
        "comparability": _hexadecimal(16),
        "sha256": _hexadecimal(64),
    }


def _hexadecimal(digits: int) -> Schema:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{digits}}}$"}
