"""The store: one JSON file a result, written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from zipeft.errors import UserError
from zipeft.files import safe_name, write_atomically
from zipeft.results.record import Result
from zipeft.results.schema import decode


def result_path(root: Path, result: Result) -> Path:
    """Return where a result is kept under ``root``."""
    folder = f"{safe_name(result.backbone.name)}-{safe_name(result.task.name)}"
    name = f"{safe_name(result.method.name)}-seed{result.seed}-{result.id}.json"
    return Path(root) / folder / safe_name(result.task.dataset) / name


def save_result(root: Path, result: Result) -> Path:
    """Write a result under ``root`` and return its path. Raises ``UserError`` if it would not read back."""
    decode(Result, dataclasses.asdict(result))  # before the id, which cannot be taken of what is not JSON
    content = result.to_json()
    Result.from_json(content)
    # One line a field: short enough to read, and a change shows in a diff where it is.
    lines = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in content.items()]
    path = result_path(root, result)
    write_atomically(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return path


def load_result(path: Path) -> Result:
    """Read one result file. Raises ``UserError`` that names the file and the field."""
    try:
        return Result.from_json(json.loads(Path(path).read_bytes()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        _cannot_read(error)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON file ({' '.join(str(error).split())}); delete it and run again") from error


def read_results(roots: Iterable[Path]) -> dict[Path, Result]:
    """Return the results of files and folders (recursively) by path, in the order of the paths."""
    files = {file.resolve(): file for root in roots for file in _json_files(Path(root))}
    return {file: load_result(file) for file in sorted(files.values())}


def _json_files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root] if root.exists() else []
    # Not Path.rglob, which passes over a folder that cannot be read as if it were empty.
    walk = os.walk(root, onerror=_cannot_read)
    return [Path(folder, name) for folder, _, names in walk for name in names if name.endswith(".json")]


def _cannot_read(error: OSError) -> NoReturn:
    raise UserError(f"cannot read {error.filename}: {error.strerror}") from error


def load_results(root: Path) -> list[Result]:
    """Return all results under ``root`` in the order of their paths; none if there is no such folder."""
    return list(read_results([root]).values())


def find(root: Path, run: str) -> Result | None:
    """Return the result with id ``run`` under ``root``, or None if it has not run yet."""
    for path in sorted(Path(root).rglob(f"*-{run}.json")):
        return load_result(path)
    return None
