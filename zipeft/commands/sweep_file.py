"""Sweep files: the options of ``python -m zipeft.run`` in TOML or YAML, under their own names."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from zipeft.errors import UserError, did_you_mean, one_line
from zipeft.experiments.options import RunOptions
from zipeft.files import read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1 << 20
"""Bytes of a sweep file."""


BARE = ("dry_run", "ray")
"""Options that may stand without a value: true says that they do."""

OPTIONS = get_type_hints(RunOptions)

NOTES = "recipe"
"""The table of a sweep file that says what it is for; it asks for nothing."""


def read_arguments(path: Path) -> list[str]:
    """Return the command line that a sweep file stands for.

    ``backbone = ["vit"]`` is ``--backbone vit``; a table ``[set.lora]`` with ``rank = 4`` is ``--set lora.rank=4``.
    Raises ``UserError`` for a file that cannot be read and for what is no option of ``RunOptions``.
    """
    arguments: list[str] = []
    content = {key: value for key, value in _content(path).items() if key != NOTES}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name != key and name in content:
            raise UserError(f"{path}: {name} is given twice, as {key!r} as well; keep one")
        if name not in OPTIONS:
            raise UserError(f"{path}: no option {key!r}{did_you_mean(name, OPTIONS)} (it takes {', '.join(OPTIONS)})")
        arguments += _arguments(path, name, value)
    return arguments


def written(options: RunOptions) -> str:
    """Return the sweep file, in TOML, that asks for the same."""
    options = replace(options, recipe=None)  # what it asks for is among the options
    said = {name: value for name, value in vars(options).items() if value not in (None, ()) and value is not False}
    return "".join(f"{name} = {json.dumps(value, default=str)}\n" for name, value in said.items())


def _content(path: Path) -> Mapping[str, Any]:
    try:
        text = read_text(path, LARGEST)
        content = _parse(path, text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be a sweep file") from None
    except ValueError as error:  # tomllib's, yaml's and UTF-8's errors
        raise UserError(f"{path}: {one_line(error, None)}") from error
    except (LookupError, TypeError, AttributeError) as error:  # of yaml's constructors, for "!!timestamp abc", say
        raise UserError(f"{path}: a value is not what its tag says: take the tag away") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: options are expected, such as backbone = 'vit'")
    return content


def _parse(path: Path, text: str) -> Any:
    if path.suffix.lower() == ".toml":
        return tomllib.loads(text)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _parse_yaml(text)
    raise UserError(f"{path}: a sweep file is named .toml, .yaml or .yml")


def _parse_yaml(text: str) -> Any:
    """Return the content of a YAML file. Raises ``ValueError``, also for what YAML lets pass: a key that is given twice
    (the last would count), and keys merged from elsewhere, of which a few lines can make any number."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for key, times in keys.most_common(1):
                if times > 1:
                    raise ValueError(f"{key!r} is given twice; keep one{node.start_mark}")
            if "<<" in keys:
                raise ValueError(f"'<<' merges other keys: write them out{node.start_mark}")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    return {} if content is None else content


def _arguments(path: Path, name: str, value: Any) -> list[str]:
    """Return the arguments that give an option its value: "--flag=value", so that no value is taken for a flag."""
    flag, kind = f"--{name.replace('_', '-')}", OPTIONS[name]
    if name == "variant":
        return [f"{flag}={variant}" for variant in _variants(path, value)]
    if name == "set":
        return [f"{flag}={assignment}" for assignment in _assignments(path, value)]
    if kind is bool or (name in BARE and isinstance(value, bool)):
        if not isinstance(value, bool):
            raise UserError(f"{path}: {name} is true or false")
        return [flag] if value else []
    if tuple[str, ...] in (kind, *get_args(kind)):
        names = [_text(path, name, item) for item in (value if isinstance(value, list) else [value])]
        return [f"{flag}={each}" for each in names] or [flag]
    if Path in (kind, *get_args(kind)) and not isinstance(value, str):
        raise UserError(f"{path}: {name} is no path: write it in quotation marks")
    if isinstance(value, bool):
        raise UserError(f"{path}: {name} is neither true nor false, but takes a value")
    comma = "," if isinstance(value, list) and len(value) == 1 else ""  # [7] is a list of one, not the number 7
    return [f"{flag}={_text(path, name, value)}{comma}"]


def _variants(path: Path, value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if not isinstance(value, Mapping) or not all(
        isinstance(own, Mapping) and "method" in own for own in value.values()
    ):
        raise UserError(f"{path}: variant is a table of tables, such as [variant.wide] with method = 'lora', rank = 32")
    variants = []
    for name, own in value.items():
        settings = [
            f"{key}={_text(path, f'variant.{name}.{key}', item)}" for key, item in own.items() if key != "method"
        ]
        variants.append(f"{name}={_text(path, f'variant.{name}.method', own['method'])}:{','.join(settings)}")
    return [variant.removesuffix(":") for variant in variants]


def _assignments(path: Path, value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(values, Mapping) for values in value.values()):
        raise UserError(f"{path}: set is a table of tables, such as [set.lora] with rank = 4")
    return [
        f"{part}.{name}={_text(path, f'set.{part}.{name}', item)}"
        for part, values in value.items()
        for name, item in values.items()
    ]


def _text(path: Path, name: str, value: Any) -> str:
    """Return the text of a value as the command line has it. Raises ``UserError`` for one that it has no form for."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(_text(path, name, item) for item in value)
    if not isinstance(value, str | int | float):
        raise UserError(f"{path}: {name} takes a text, a number or a list of those, and has a {type(value).__name__}")
    return str(value).lower() if isinstance(value, bool) else str(value)
