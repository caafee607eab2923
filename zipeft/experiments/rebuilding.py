"""From a record back to the training that it is of: the comparison and the run, as they were when it was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from zipeft import registry
from zipeft.api.backbone import Backbone
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import Choice, Dimension, Range
from zipeft.api.settings import from_json, override
from zipeft.api.task import Task
from zipeft.errors import UserError, one_line
from zipeft.experiments.comparison import Comparison, Contender, Run
from zipeft.experiments.description import Describer
from zipeft.registry import Named
from zipeft.results import BackboneRecord, MethodRecord, Record, Result, TaskRecord, Trial
from zipeft.results.differences import unequal
from zipeft.results.identity import identity
from zipeft.training.execution import Execution

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Where weights and data lie that a record names without their place; ``weights`` are settings of the backbone,
    such as {"checkpoint": "vit_base_patch16_224:weights.npz"}. Empty for where zipeft finds them itself."""

    weights: Mapping[str, str] = field(default_factory=dict)
    data_dir: Path | None = None


def rebuild(record: Record, at: Places) -> tuple[Comparison, Run]:
    """Return the comparison of a trial's or run's record, which has its method and its seed alone, and the run.

    Raises ``UserError`` for a plug-in or weights that are not there, for settings that a plug-in does not take, and for
    the record of a failure.
    """
    if not isinstance(record, Result | Trial):
        raise UserError(f"it is the record of a {record.kind}: there is no result to reproduce")
    method = _method(record.method)
    protocol = _protocol(record.protocol)
    backbone, task = _backbone(record.backbone, at.weights), _task(record.task, at.data_dir)
    comparison = Comparison(
        Named(record.backbone.name, backbone), Named(record.task.name, task), (method,), protocol, (record.seed,)
    )
    if isinstance(record, Trial):
        return comparison, Run(record.task.dataset, method, record.seed, record.index)
    return comparison, Run(record.task.dataset, method, record.seed, tried=record.search)


def changes(record: Record, describer: Describer, run: Run) -> dict[str, str]:
    """Return what decides the record and is another here, as {"protocol.epochs": "3 / 10"}; empty where the ids agree.

    It is that of the weights and the data too, which have to be at hand.
    """
    then = identity(
        record.kind, record.backbone, record.task, record.method, record.protocol, record.seed, record.version
    )
    here = identity(run.kind.kind, **describer.identity(run))
    return unequal(then, here)


def execution_of(record: Record) -> Execution:
    """Return how the record's training was carried out, as far as one process can: it decides how sums are rounded."""
    recorded, known = record.environment.execution, {each.name for each in fields(Execution)} - {"sharding"}
    return _made("execution", Execution, {name: recorded[name] for name in sorted(known & recorded.keys())})


def _backbone(record: BackboneRecord, weights: Mapping[str, str]) -> Backbone:
    """Return the backbone whose weights are those of the record by name.

    What names weights may have been a path, so a record has the checkpoint's name alone.
    """
    cls = registry.backbones.get(record.name)
    if unknown := weights.keys() - set(cls.weight_settings):
        raise UserError(f"{record.name}.{min(unknown)} names no weights: what else decides a result is on record")
    candidates = (
        [record.settings] if weights else [{**record.settings, "checkpoint": record.checkpoint}, record.settings]
    )
    why = ""
    for settings in candidates:
        try:
            backbone = override(_made(record.name, cls, settings), weights, record.name)
            found = backbone.weights().checkpoint
        except (UserError, ValueError) as error:
            why = why or one_line(error)
            continue
        if found == record.checkpoint:
            return backbone
        why = why or f"found {found}"
    raise UserError(
        f"the weights {record.checkpoint} ({record.source}) of {record.name} are not at hand ({why}): name them by "
        "--checkpoint, or by --set backbone.SETTING=VALUE"
    )


def _task(record: TaskRecord, data_dir: Path | None) -> Task:
    place = {} if data_dir is None else {"data_dir": str(data_dir)}
    return override(_made(record.name, registry.tasks.get(record.name), record.settings), place, record.name)


def _method(record: MethodRecord) -> Contender:
    method = _made(record.name, registry.methods.get(record.name), record.settings)
    return Contender(record.name, method, {name: _dimension(name, each) for name, each in record.space.items()})


def _dimension(name: str, recorded: Any) -> Dimension:
    parts = recorded.keys() if isinstance(recorded, Mapping) else set()
    if parts == {each.name for each in fields(Range)}:
        return _made(f"method.space.{name}", Range, recorded)
    if parts == {each.name for each in fields(Choice)}:
        return _made(f"method.space.{name}", Choice, recorded)
    raise UserError(f"method.space.{name} is no dimension of a search that this version of zipeft knows")


def _protocol(recorded: Mapping[str, Any]) -> TrainingProtocol:
    known = {each.name for each in fields(TrainingProtocol)}
    return _made("protocol", TrainingProtocol, {name: recorded[name] for name in sorted(known & recorded.keys())})


def _made(name: str, cls: Callable[..., T], settings: Mapping[str, Any]) -> T:
    try:
        return from_json(cls, settings)  # type: ignore[arg-type]  # a class
    except ValueError as error:
        raise UserError(f"the record has settings of {name} that it does not take here ({one_line(error)})") from error
