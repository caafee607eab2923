"""Saved adapters: what a run learnt, as a safetensors file, and beside it a JSON that says what it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from zipeft import registry, strict_json
from zipeft.api.backbone import Backbone
from zipeft.api.learner import Learner, build_learner
from zipeft.api.objective import Objective
from zipeft.api.settings import as_json, from_json
from zipeft.api.task import Task
from zipeft.errors import UserError, one_line
from zipeft.files import open_file, read_whole, write_atomically
from zipeft.results.schema import decode

FORMAT = 1
METADATA = {"format": "pt"}
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16"}
"""What safetensors calls them."""

TENSORS, RECORD = "adapter.safetensors", "adapter.json"


@dataclass(frozen=True)
class _Backbone:
    name: str
    checkpoint: str
    checksum: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Method:
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Task:
    name: str
    dataset: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class _Record:
    """What a record holds. Of what an adapter need not have, ``run`` is the id of the run that it came from, and
    ``origin`` the format that it was converted from."""

    format: int
    backbone: _Backbone
    method: _Method
    task: _Task
    classes: tuple[str, ...]
    chosen: dict[str, float]
    run: str
    origin: str


OPTIONAL = {"chosen": {}, "run": "", "origin": ""}


def adapter_bytes(learner: Learner) -> int:
    """Return the size of the file of tensors that ``save_adapter`` would write, also of a learner without memory."""
    end, header = 0, {"__metadata__": METADATA}
    for name, parameter in sorted(learner.trainable().items()):
        start, end = end, end + parameter.numel() * parameter.element_size()
        header[name] = {"dtype": DTYPES[parameter.dtype], "shape": list(parameter.shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + -(-text // 8) * 8 + end


def save_adapter(folder: Path, learner: Learner, record: Mapping[str, Any]) -> Path:
    """Write what trains in a learner, head included, into a folder, and return the folder.

    ``record`` names what it belongs to: backbone (name, settings, checkpoint, checksum), method (name, settings), task
    (name, data set, settings) and the classes, as ``adapter_record`` gives it.
    """
    folder = Path(folder)
    write_atomically(folder / TENSORS, _tensors(learner))
    write_atomically(
        folder / RECORD, (json.dumps({"format": FORMAT, "chosen": learner.chosen, **record}, indent=2) + "\n").encode()
    )
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a saved adapter. Raises ``UserError`` if the folder holds none."""
    path = Path(folder) / RECORD
    try:
        record = strict_json.parse(read_whole(path))
    except OSError as error:
        raise UserError(f"{folder} holds no adapter: {path.name} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path} is not the record of an adapter ({error})") from error
    if isinstance(record, Mapping) and record.get("format") != FORMAT:
        raise UserError(f"{path} is not the record of an adapter that this version of zipeft reads (format {FORMAT})")
    try:
        decode(_Record, {**OPTIONAL, **record} if isinstance(record, Mapping) else record)
    except UserError as error:
        raise UserError(f"{path} is not the record of an adapter ({error})") from error
    return record


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a saved adapter. Raises ``UserError`` if the file is damaged, or holds what no training
    leaves: numbers that are not finite, or that are whole."""
    path = Path(folder) / TENSORS
    try:
        open_file(path).close()  # a FIFO would be waited for
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}); save the adapter again") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            raise UserError(f"{path} is damaged: {name!r} holds {tensor.dtype}, which does not train")
        if not tensor.isfinite().all():
            raise UserError(f"{path} is damaged: {name!r} has numbers that are not finite")
    return tensors


def load_adapter(folder: Path, backbone: Backbone | None = None) -> tuple[Learner, dict[str, Any]]:
    """Return the learner that the adapter in ``folder`` was saved from, in evaluation mode, and the adapter's record.

    ``backbone`` None builds the one that the record names; another one must be the same in name and weights.

    Raises: ``UserError`` if the adapter was made for another backbone, or its files are damaged.
    """
    record = read_record(folder)
    backbone = backbone or _plugin(registry.backbones, record["backbone"])
    method = _plugin(registry.methods, record["method"])
    _check_backbone(folder, record["backbone"], backbone)
    objective = objective_of(record)
    model = backbone.build().requires_grad_(False)
    learner = build_learner(method.apply, backbone, model, objective, record["classes"])
    _fill(learner, folder)
    learner.chosen = record.get("chosen", {})
    return learner.eval(), record


def task_of(record: Mapping[str, Any]) -> Task:
    """Return the task, with its settings, that an adapter's record names."""
    return _plugin(registry.tasks, record["task"])


def objective_of(record: Mapping[str, Any]) -> Objective:
    """Return what an adapter has learnt, as its method had it."""
    method = _plugin(registry.methods, record["method"])
    return method.objective(task_of(record).objective(record["task"]["dataset"], record["classes"]))


def _tensors(learner: Learner) -> bytes:
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in learner.trainable().items()}
    return save(tensors, metadata=METADATA)


def _plugin(kind: registry.Registry, record: Mapping[str, Any]) -> Any:
    """Return what a part of a record names, with its settings. Raises ``UserError`` for those that it does not take."""
    plugin = kind.get(record["name"])
    try:
        return from_json(plugin, record["settings"])
    except ValueError as error:
        raise UserError(
            f"{RECORD} has settings that {record['name']} does not take ({one_line(error)}): it was edited, or made by "
            "another version of zipeft"
        ) from error


def _check_backbone(folder: Path, made_for: Mapping[str, Any], backbone: Backbone) -> None:
    weights = backbone.weights()
    theirs, ours = (made_for["checkpoint"], made_for["checksum"]), (weights.checkpoint, weights.checksum)
    if theirs not in (ours, (weights.checkpoint, weights.older)):
        names = [f"{checkpoint} ({checksum[:8] or 'no checksum'})" for checkpoint, checksum in (theirs, ours)]
        raise UserError(f"the adapter {folder} was made for the backbone {names[0]}, not for {names[1]}")


def _fill(learner: Learner, folder: Path) -> None:
    """Copy a file's tensors into what trains in a learner, each into its own and none left over."""
    tensors, parameters = read_tensors(folder), learner.trainable()
    for name in sorted({*tensors, *parameters}):
        if name not in tensors or name not in parameters or not _alike(tensors[name], parameters[name]):
            raise UserError(
                f"{Path(folder) / TENSORS} does not fit the backbone and the method of its record: {name} differs"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def adapter_record(
    name: str, backbone: Backbone, method: tuple[str, Any], task: tuple[str, Any], dataset: str, classes: list[str]
) -> dict[str, Any]:
    """Return what ``save_adapter`` writes down: ``method`` and ``task`` are names and instances."""
    weights = backbone.weights()
    identity = {"checkpoint": weights.checkpoint, "checksum": weights.checksum}
    return {
        "backbone": {"name": name, **identity, "settings": as_json(backbone)},
        "method": {"name": method[0], "settings": as_json(method[1])},
        "task": {"name": task[0], "dataset": dataset, "settings": as_json(task[1])},
        "classes": list(classes),
    }
