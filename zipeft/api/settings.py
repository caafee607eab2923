"""Settings of plug-ins: dataclass fields that the command line sets as text and a run records as JSON."""

from __future__ import annotations

import math
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from dataclasses import field as dataclass_field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, overload

from zipeft.errors import UserError, did_you_mean

T = TypeVar("T")

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_assignments(assignments: Iterable[str]) -> dict[str, dict[str, str]]:
    """Parse ``["zero_gated.length=50", ...]`` to ``{"zero_gated": {"length": "50"}, ...}``.

    Raises ``UserError`` for text of another form and for a setting that is given twice.
    """
    settings: dict[str, dict[str, str]] = {}
    for assignment in assignments:
        target, equals, value = assignment.partition("=")
        name, _, field = target.strip().rpartition(".")
        if not (name and field and equals):
            raise UserError(f"{assignment!r} is not of the form NAME.SETTING=VALUE, such as zero_gated.length=50")
        if field in settings.setdefault(name, {}):
            raise UserError(f"{name}.{field} is set twice; keep one")
        settings[name][field] = value.strip()
    return settings


RECORDED_NAME, RECORDED_VALUES, CAME_LATER = "zipeft recorded name", "zipeft recorded values", "zipeft came later"
"""Of a field's metadata."""


def later_setting(default: Any) -> Any:
    """Return the field of a setting that came when there were records without it: at its default no record names it, so
    that ids stay what they were. In Python it goes by its name alone, as subclasses have settings of their own."""
    return dataclass_field(default=default, kw_only=True, metadata={CAME_LATER: True})


def setting(default: Any, *, recorded_as: str = "", recorded_values: Mapping[str, str] | None = None) -> Any:
    """Return the field of a setting that was renamed, or of which values were: ``recorded_values`` maps their new names
    to the old ones.

    Records keep the old names, so that ids stay what they were. On the command line the old ones are taken as well,
    with a line that says the new one. Not for settings in a method's search space, which other parts of records name.
    """
    metadata = {RECORDED_NAME: recorded_as, RECORDED_VALUES: dict(recorded_values or {})}
    return dataclass_field(default=default, metadata=metadata)


def _renamed(cls: type, values: Mapping[str, str], name: str) -> dict[str, str]:
    """Return settings given as text under the present names of fields and values; say which have a new one.

    Raises ``UserError`` for a setting that is given under both.
    """
    known = {field.name: field for field in _settable(cls)}
    present = {_recorded_name(field): field.name for field in known.values()}
    current: dict[str, str] = {}
    for given, text in values.items():
        name_now = given if given in known else present.get(given, given)
        if name_now in current:
            raise UserError(f"{name}.{name_now} is set twice, once as {given}; keep one")
        if name_now != given:
            _say(f"{name}.{given} is now called {name}.{name_now}")
        new = _present_values(known[name_now]).get(text, text) if name_now in known else text
        if new != text:
            _say(f"{name}.{name_now}={text} is now called {name}.{name_now}={new}")
        current[name_now] = new
    return current


@cache  # of a name in a sweep over many tasks, once is enough
def _say(line: str) -> None:
    print(f"zipeft: {line}", file=sys.stderr)


def _recorded_name(field: Field[Any]) -> str:
    return field.metadata.get(RECORDED_NAME) or field.name


def _recorded_values(field: Field[Any]) -> Mapping[str, str]:
    return field.metadata.get(RECORDED_VALUES, {})


def _present_values(field: Field[Any]) -> dict[str, str]:
    return {recorded: value for value, recorded in _recorded_values(field).items()}


@overload
def override(target: type[T], values: Mapping[str, str], name: str = "") -> T: ...
@overload
def override(target: T, values: Mapping[str, str], name: str = "") -> T: ...
def override(target: Any, values: Mapping[str, str], name: str = "") -> Any:
    """Return an instance of a dataclass with some fields set from text: ``values`` by their names.

    ``target`` is an instance, whose other fields are kept, or a class, whose other fields have their defaults.
    ``name`` stands for it in messages. Raises ``UserError`` for an unknown field and for a value that is not of
    the field's type or that the class itself refuses.
    """
    cls = target if isinstance(target, type) else type(target)
    name = name or cls.__name__
    values = _renamed(cls, values, name)
    known = [field.name for field in _settable(cls)]
    for field in values:
        if field not in known:
            has = f"its settings are {', '.join(known)}" if known else "it has none"
            raise UserError(f"{name} has no setting {field!r}{did_you_mean(field, known)} ({has})")
    hints = _types(cls, name) if values else {}
    parsed = {field: _parse_setting(f"{name}.{field}", hints[field], text) for field, text in values.items()}
    try:
        return cls(**parsed) if isinstance(target, type) else replace(target, **parsed)
    except ValueError as error:  # from the plug-in's own __post_init__
        raise UserError(f"{name}: {error}") from error


def as_json(instance: object) -> dict[str, Any]:
    """Return the fields of a dataclass instance as what ``json`` can write. Paths become text, tuples lists, and what
    was renamed has the name that records have for it. What came later is left out at its default.

    Raises ``TypeError`` for a field of a type that JSON has no form for.
    """
    recorded = (field for field in fields(instance) if not _left_out(instance, field))  # type: ignore[arg-type]  # a dataclass
    return dict(_recorded(instance, field) for field in recorded)


def _left_out(instance: object, field: Field[Any]) -> bool:
    """Whether records do not name a setting that came later than the first of them."""
    return CAME_LATER in field.metadata and getattr(instance, field.name) == field.default


def _recorded(instance: object, field: Field[Any]) -> tuple[str, Any]:
    value = _jsonable(getattr(instance, field.name))
    return _recorded_name(field), _recorded_values(field).get(value, value) if isinstance(value, str) else value


def from_json(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return the instance that ``as_json`` made ``values`` of: lists are tuples again, and text is a path where the
    field is one. A field that is not to be set has the class's own value, whatever is on record. Raises ``ValueError``
    for a field that is unknown, missing or of another type, and for a value that the class itself refuses."""
    hints = typing.get_type_hints(cls)
    known = {_recorded_name(field): field for field in fields(cls)}  # type: ignore[arg-type]  # a dataclass
    restored = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"no setting {name!r}")
        if (field := known[name]).init:
            present = _present_values(field).get(value, value) if isinstance(value, str) else value
            restored[field.name] = _restored_setting(name, hints[field.name], present)
    for name, field in known.items():
        if field.init and name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{name} is missing")
    return cls(**restored)


def _restored_setting(name: str, annotation: Any, value: Any) -> Any:
    try:
        return _restored(annotation, value)
    except ValueError as error:
        raise ValueError(f"{name}: {reprlib.repr(value)} is not {error}") from None


def _restored(annotation: Any, value: Any) -> Any:
    """Return a value of JSON as one of an annotated type. Raises ``ValueError`` with what was expected.

    What cannot be set as text either, a mapping say, is left as it is.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in PARSERS:
        expected, _ = PARSERS[annotation]
        if type(value) not in JSON_TYPES[annotation] or not _is_sound(annotation, value):
            raise ValueError(expected)
        return Path(value) if annotation is Path else value
    if origin is Literal:
        if not any(type(value) is type(choice) and value == choice for choice in arguments):
            raise ValueError(f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (Union, types.UnionType):
        return _restored_union(arguments, value)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        if not isinstance(value, list):
            raise ValueError("a list")
        return tuple(_restored(arguments[0], item) for item in value)
    return tuple(value) if isinstance(value, list) else value


def _restored_union(choices: tuple[Any, ...], value: Any) -> Any:
    expected = []
    for choice in choices:
        try:
            if choice is not types.NoneType:
                return _restored(choice, value)
            if value is None:
                return None
        except ValueError as error:
            expected.append(str(error))
    raise ValueError(" or ".join([*expected, *(["none"] if types.NoneType in choices else [])]))


def _is_sound(annotation: Any, value: Any) -> bool:
    """Whether a number is finite, and a text or a path one that can be written down."""
    if annotation is Path:
        return value != "" and "\0" not in value
    return _is_text(value) if annotation is str else abs(value) <= sys.float_info.max


def _is_text(value: str) -> bool:
    """Whether a text is one in UTF-8, without the character that ends texts elsewhere."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a character: of an argument in another encoding, say
        return False


def describe(cls: type) -> list[str]:
    """Return "length: int = 10" for every setting of a dataclass."""
    return [f"{field.name}: {_annotation(field.type)}{_default(field)}" for field in _settable(cls)]


def _settable(cls: type) -> list[Field[Any]]:
    return [field for field in fields(cls) if field.init]


def _types(cls: type, name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise UserError(f"{name}: a setting's type is unknown ({error}); import it outside TYPE_CHECKING") from error


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _default(field: Field[Any]) -> str:
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
    else:
        return ""
    return f" = {value}" if isinstance(value, Path) else f" = {value!r}"


def _parse_setting(label: str, annotation: Any, text: str) -> Any:
    try:
        return _parse(annotation, text)
    except ValueError as error:
        raise UserError(f"{label}: {text!r} is not {error}") from None


def _parse(annotation: Any, text: str) -> Any:
    """Parse text to an annotated type. Raises ``ValueError`` with what was expected."""
    if annotation in PARSERS:
        expected, parse = PARSERS[annotation]
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise ValueError(expected) from None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return _parse_literal(arguments, text)
    if origin in (Union, types.UnionType):
        return _parse_union(arguments, text)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_parse(arguments[0], part.strip()) for part in text.split(",")) if text else ()
    raise ValueError(f"settable as text: its type is {_annotation(annotation)}")


def _parse_literal(choices: tuple[Any, ...], text: str) -> Any:
    by_text = {str(choice): choice for choice in choices}
    if text not in by_text:
        listed = ", ".join(choice or '""' for choice in by_text)
        raise ValueError(f"one of {listed}{did_you_mean(text, by_text)}")
    return by_text[text]


def _parse_union(choices: tuple[Any, ...], text: str) -> Any:
    if types.NoneType in choices and text.lower() in ("none", ""):
        return None
    expected = []
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _parse(choice, text)
            except ValueError as error:
                expected.append(str(error))
    raise ValueError(" or ".join([*expected, *(["none"] if types.NoneType in choices else [])]))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def path(text: str) -> Path:
    """Return the path that a text names, "~" expanded. Raises ``ValueError`` if it names none."""
    if not text or "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # "~name" of somebody unknown
        raise ValueError from error


def _text(text: str) -> str:
    if not _is_text(text):
        raise ValueError
    return text


PARSERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("an integer", int),
    float: ("a finite number", _finite),
    bool: ("true or false", lambda text: BOOLEANS[text.lower()]),
    str: ("text in UTF-8", _text),
    Path: ("a path", path),
}

JSON_TYPES: dict[Any, tuple[type, ...]] = {int: (int,), float: (float, int), bool: (bool,), str: (str,), Path: (str,)}
"""As what a value of each type stands in JSON."""


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_jsonable(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(value)
    raise TypeError(f"{value!r} has no form in JSON")
