"""Strict decoding of JSON into frozen dataclasses, after their type hints."""

from __future__ import annotations

import dataclasses
import functools
import reprlib
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from zipeft.errors import UserError


def decode(kind: Any, value: Any, where: str = "") -> Any:
    """Return ``value`` as ``kind``: a dataclass, dict[str, X], tuple[X, ...], str, bool, int (not negative), float, one
    of these or None, or Any (JSON). ``where`` is the dotted name of the field.

    Raises ``UserError`` that names the field: missing, unknown, of another type, or not finite.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    if kind is Any:
        return _decode_any(value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None
        return None if value is None else decode(arguments[0], value, where)
    if origin is dict:
        _require(isinstance(value, Mapping) and all(isinstance(key, str) for key in value), where, "an object", value)
        return {key: decode(arguments[1], item, dotted(where, key)) for key, item in value.items()}
    if origin is tuple:
        _require(isinstance(value, list | tuple), where, "a list", value)
        if _are_all(arguments[0], value):
            return tuple(value)
        return tuple(decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    return _decode_scalar(kind, value, where)


def _are_all(kind: Any, values: Sequence[Any]) -> bool:
    """Whether values need no decoding one by one: a record has several lists of one for each test example."""
    found = set(map(type, values))
    if found == {float}:
        return kind in (float, Any) and all(map(isfinite, values))
    return found <= {str, bool, int, type(None)} if kind is Any else found == {str} and kind is str


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    _require(isinstance(value, Mapping), where, "an object", value)
    hints = field_hints(kind)
    for name in value:
        if name not in hints:
            raise UserError(f"{dotted(where, name)} is not a field of this schema")
    for name in hints:
        if name not in value:
            raise UserError(f"{dotted(where, name)} is missing")
    return kind(**{name: decode(hint, value[name], dotted(where, name)) for name, hint in hints.items()})


@functools.cache
def field_hints(kind: type) -> dict[str, Any]:
    """Return the type of every field of a dataclass."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # class variables are no fields


def _decode_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        _require(isinstance(value, int | float) and not isinstance(value, bool), where, "a number", value)
        _require(abs(value) <= sys.float_info.max, where, "finite", value)
        return float(value)
    if kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        _require(whole, where, "a whole number, not negative", value)
    else:
        names = {str: "a string", bool: "true or false"}
        _require(isinstance(value, kind), where, names[kind], value)
    return value


def _decode_any(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return decode(dict[str, Any], value, where)
    if isinstance(value, list | tuple):
        if _are_all(Any, value):
            return list(value)
        return [_decode_any(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        return decode(float, value, where)
    _require(value is None or isinstance(value, str | bool | int), where, "a JSON value", value)
    return value


def _require(condition: bool, where: str, what: str, value: Any) -> None:
    if not condition:
        raise UserError(f"{where or 'the content'} must be {what}, not {reprlib.repr(value)}")


def dotted(where: str, name: str) -> str:
    """Return the dotted name of a field in ``where``, fit for a message of one line whatever a file calls it."""
    shown = name if name.isprintable() else repr(name)
    return f"{where}.{shown}" if where else shown
