"""Sweep files: the options of ``python -m zipeft.run`` in TOML or YAML, under their own names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zipeft.errors import UserError, did_you_mean
from zipeft.files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 16 << 20
"""Bytes of a sweep file."""


def read_arguments(path: Path, parser: argparse.ArgumentParser) -> list[str]:
    """Return the command line that a sweep file stands for.

    ``backbone = ["vit"]`` is ``--backbone vit``; a table ``[set.lora]`` with ``rank = 4`` is ``--set lora.rank=4``.
    Raises ``UserError`` for a file that cannot be read and for an option that ``parser`` does not have.
    """
    options = {action.dest: action for action in parser._actions if action.option_strings and action.dest != "config"}
    arguments: list[str] = []
    for key, value in _content(path).items():
        name = str(key).replace("-", "_")
        if name not in options or name == "help":
            known = [option for option in options if option != "help"]
            raise UserError(f"{path}: no option {key!r}{did_you_mean(name, known)} (it takes {', '.join(known)})")
        arguments += _arguments(path, options[name], value)
    return arguments


def _content(path: Path) -> Mapping[str, Any]:
    try:
        text = read_text(path, LARGEST)
        content = _parse(path, text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # tomllib's, yaml's and UTF-8's errors
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: options are expected, such as backbone = 'vit'")
    return content


def _parse(path: Path, text: str) -> Any:
    if path.suffix.lower() == ".toml":
        return tomllib.loads(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    raise UserError(f"{path}: a sweep file is named .toml, .yaml or .yml")


def _arguments(path: Path, option: argparse.Action, value: Any) -> list[str]:
    flag = option.option_strings[0]
    if option.dest == "set":
        return [token for assignment in _assignments(path, value) for token in (flag, assignment)]
    if option.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{path}: {option.dest} is true or false")
        return [flag] * value
    if option.nargs == "+":
        return [flag, *map(str, value if isinstance(value, list) else [value])]
    if isinstance(value, Mapping) or value is None:
        raise UserError(f"{path}: {option.dest} is {value!r}, but one value is expected")
    comma = "," if isinstance(value, list) and len(value) == 1 else ""  # [7] is a list of one, not the number 7
    return [f"{flag}={_text(value)}{comma}"]


def _assignments(path: Path, value: Any) -> list[str]:
    if isinstance(value, list):
        return list(map(str, value))
    if not isinstance(value, Mapping) or not all(isinstance(settings, Mapping) for settings in value.values()):
        raise UserError(f"{path}: set is a table of tables, such as [set.lora] with rank = 4")
    return [f"{part}.{name}={_text(item)}" for part, settings in value.items() for name, item in settings.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
