"""The record of a saved adapter: what it belongs to, where it came from, and how that is written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zipeft import strict_json
from zipeft.api.backbone import Backbone
from zipeft.api.method import Method
from zipeft.api.settings import as_json
from zipeft.api.task import Task
from zipeft.errors import UserError
from zipeft.registry import Named
from zipeft.results.schema import decode

FORMAT = 1

OPTIONAL: dict[str, Any] = {"chosen": {}, "run": "", "origin": ""}
"""What a record need not say."""


@dataclass(frozen=True)
class BackbonePart:
    """The frozen model that an adapter was made for."""

    name: str
    checkpoint: str
    checksum: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class MethodPart:
    """The method that made an adapter."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class TaskPart:
    """The task and data set that an adapter was made for."""

    name: str
    dataset: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class AdapterRecord:
    """What an adapter belongs to.

    ``chosen`` is what was chosen on validation data, such as a threshold; ``run`` the id of the run that the adapter
    came from, and ``origin`` the format that it was converted from, each "" where there is none.
    """

    backbone: BackbonePart
    method: MethodPart
    task: TaskPart
    classes: tuple[str, ...]
    chosen: dict[str, float] = field(default_factory=dict)
    run: str = ""
    origin: str = ""
    format: int = FORMAT

    @classmethod
    def of(
        cls,
        backbone: Named[Backbone],
        method: Named[Method],
        task: Named[Task],
        dataset: str,
        classes: Sequence[str],
        *,
        run: str = "",
        origin: str = "",
    ) -> AdapterRecord:
        """Return the record of what these learn on a data set."""
        weights = backbone.plugin.weights()
        return cls(
            BackbonePart(backbone.name, weights.checkpoint, weights.checksum, as_json(backbone.plugin)),
            MethodPart(method.name, as_json(method.plugin)),
            TaskPart(task.name, dataset, as_json(task.plugin)),
            tuple(classes),
            run=run,
            origin=origin,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the record's file."""
        content = {"format": self.format, "chosen": self.chosen, **asdict(self), "classes": list(self.classes)}
        return {name: value for name, value in content.items() if value or name not in ("run", "origin")}

    def write(self) -> bytes:
        """Return the record's file."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()


def parse(text: bytes) -> AdapterRecord:
    """Return the record that a file holds. Raises ``UserError`` with what is wrong with it."""
    try:
        content = strict_json.parse(text)
    except ValueError as error:
        raise UserError(f"is not the record of an adapter ({error})") from error
    if isinstance(content, Mapping):
        if content.get("format") != FORMAT:
            raise UserError(f"is not the record of an adapter that this version of zipeft reads (format {FORMAT})")
        content = {**OPTIONAL, **content}
    try:
        return decode(AdapterRecord, content)
    except UserError as error:
        raise UserError(f"is not the record of an adapter ({error})") from error
