"""Files of test examples, beside the results of a data set, so that pages need no data: ``easy-vqa.examples.json``."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zipeft import registry, strict_json
from zipeft.api.sealed import TestKey
from zipeft.api.settings import from_json
from zipeft.api.showcase import Showcase, Shown
from zipeft.errors import UserError, one_line
from zipeft.files import read_whole, write_atomically
from zipeft.results import Place, Result
from zipeft.results.archive import Line, folder_of
from zipeft.results.reading import EXAMPLES_SUFFIX

PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Examples:
    """The test examples of a data set that pages show; ``checksum`` says of which content, as results have it."""

    dataset: str
    checksum: str
    showcase: Showcase


def path_beside(place: Place) -> Path:
    """Return where the examples of a result's data set lie: beside its folder, or its archive."""
    folder = folder_of(place.archive) if isinstance(place, Line) else place.parent
    return folder.with_name(folder.name + EXAMPLES_SUFFIX)


def examples_of(result: Result) -> Examples | None:
    """Return the examples of a result's data set, from its data; None where none may be shown.

    The test split is opened with a key of its own: all results are there. Raises ``UserError`` where the data are not
    at hand, or are not those of the result.
    """
    record = result.task
    task = from_json(registry.tasks.get(record.name), record.settings)
    if not task.credit(record.dataset):
        return None
    data = task.load(record.dataset)
    if data.checksum != record.checksum:
        raise UserError(f"the data of {record.dataset} are not those of its results: their checksums differ")
    key = TestKey(f"the page of {record.dataset}")
    key.chosen("the results are on record")
    return Examples(
        record.dataset, data.checksum, task.showcase(record.dataset, data.sealed_splits()["test"].open(key))
    )


def write(path: Path, examples: Examples) -> None:
    """Write examples to a file. Raises ``CannotWrite``."""
    shown = [{**asdict(each), "image": base64.b64encode(each.image).decode()} for each in examples.showcase.examples]
    about = {"dataset": examples.dataset, "checksum": examples.checksum, "credit": examples.showcase.credit}
    write_atomically(path, (json.dumps({**about, "examples": shown}, indent=1) + "\n").encode())


def read(path: Path) -> Examples:
    """Return the examples in a file. Raises ``UserError`` for one that ``write`` has not written."""
    try:
        content = strict_json.parse(read_whole(path))
        shown = tuple(_shown(each) for each in content["examples"])
        return Examples(content["dataset"], content["checksum"], Showcase(content["credit"], shown))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"it holds no examples ({one_line(error)})"
        raise UserError(f"{path}: {reason}; make it again with zipeft leaderboard --examples") from error


def _shown(content: Any) -> Shown:
    image = base64.b64decode(content["image"], validate=True)
    shown = Shown(**{**content, "options": tuple(content["options"]), "image": image})
    if not image.startswith(PNG) or not 0 <= shown.right < len(shown.options) or shown.index < 0:
        raise ValueError(f"example {shown.index}")
    return shown
