"""Saved adapters: what a run learnt, as a safetensors file, and beside it a JSON that says what it belongs to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from zipeft import registry
from zipeft.adapters.record import AdapterRecord, BackbonePart, MethodPart, TaskPart, parse
from zipeft.api.backbone import Backbone
from zipeft.api.learner import Learner, build_learner
from zipeft.api.objective import Objective
from zipeft.api.settings import as_json, from_json
from zipeft.api.task import Task
from zipeft.errors import UserError, one_line
from zipeft.files import open_file, read_whole, write_atomically
from zipeft.modules.held_tensors import take_shapes

METADATA = {"format": "pt"}
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16"}
"""What safetensors calls them."""

TENSORS, RECORD = "adapter.safetensors", "adapter.json"


def adapter_bytes(learner: Learner) -> int:
    """Return the size of the file of tensors that ``save_adapter`` would write, also of a learner without memory."""
    end = 0
    header: dict[str, Any] = {"__metadata__": METADATA}
    for name, parameter in sorted(learner.learnt().items()):
        start, end = end, end + parameter.numel() * parameter.element_size()
        header[name] = {"dtype": DTYPES[parameter.dtype], "shape": list(parameter.shape), "data_offsets": [start, end]}
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + -(-text // 8) * 8 + end


def save_adapter(folder: Path, learner: Learner, record: AdapterRecord) -> Path:
    """Write what a learner has learnt, head included, and what it belongs to into a folder, and return the folder."""
    folder = Path(folder)
    write_atomically(folder / TENSORS, _tensors(learner))
    write_atomically(folder / RECORD, replace(record, chosen=learner.chosen).write())
    return folder


def read_record(folder: Path) -> AdapterRecord:
    """Return the record of a saved adapter. Raises ``UserError`` if the folder holds none."""
    path = Path(folder) / RECORD
    try:
        return parse(read_whole(path))
    except OSError as error:
        raise UserError(f"{folder} holds no adapter: {path.name} cannot be read ({error.strerror})") from error
    except UserError as error:
        raise UserError(f"{path} {error}") from error


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


def load_adapter(folder: Path, backbone: Backbone | None = None) -> tuple[Learner, AdapterRecord]:
    """Return the learner that the adapter in ``folder`` was saved from, in evaluation mode, and the adapter's record.

    ``backbone`` None builds the one that the record names; another one must be the same in name and weights.

    Raises: ``UserError`` if the adapter was made for another backbone, or its files are damaged.
    """
    record = read_record(folder)
    backbone = backbone or _plugin(registry.backbones, record.backbone)
    method = _plugin(registry.methods, record.method)
    _check_backbone(folder, record.backbone, backbone)
    objective = objective_of(record)
    model = backbone.load()
    learner = build_learner(method.adapt, backbone, model, objective, record.classes)
    _fill(learner, folder)
    learner.chosen = record.chosen
    return learner.eval(), record


def task_of(record: AdapterRecord) -> Task:
    """Return the task, with its settings, that an adapter's record names."""
    return _plugin(registry.tasks, record.task)


def objective_of(record: AdapterRecord) -> Objective:
    """Return what an adapter has learnt, as its method had it."""
    method = _plugin(registry.methods, record.method)
    return method.objective(task_of(record).objective(record.task.dataset, record.classes))


def _tensors(learner: Learner) -> bytes:
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in learner.learnt().items()}
    return save(tensors, metadata=METADATA)


def _plugin(kind: registry.Registry[Any], part: BackbonePart | MethodPart | TaskPart) -> Any:
    """Return what a part of a record names, with its settings. Raises ``UserError`` for those that it does not take."""
    plugin = kind.get(part.name)
    try:
        return from_json(plugin, part.settings)
    except ValueError as error:
        raise UserError(
            f"{RECORD} has settings that {part.name} does not take ({one_line(error)}): it was edited, or made by "
            "another version of zipeft"
        ) from error


def _check_backbone(folder: Path, made_for: BackbonePart, backbone: Backbone) -> None:
    weights = backbone.weights()
    theirs, ours = (made_for.checkpoint, made_for.checksum), (weights.checkpoint, weights.checksum)
    if theirs not in (ours, (weights.checkpoint, weights.older)):
        names = [f"{checkpoint} ({checksum[:8] or 'no checksum'})" for checkpoint, checksum in (theirs, ours)]
        raise UserError(f"the adapter {folder} was made for the backbone {names[0]}, not for {names[1]}")
    settings = {"dtype": backbone.dtype, **as_json(backbone)}
    made = {"dtype": "fp32", **made_for.settings}
    for name in sorted(settings.keys() & made.keys() - set(backbone.weight_settings)):
        then, now = made[name], settings[name]
        if then != now:
            raise UserError(f"the adapter {folder} was made for {name} {then}, not for {now}: set it so")


def _fill(learner: Learner, folder: Path) -> None:
    """Copy a file's tensors into what is learnt in a learner, each into its own and none left over."""
    tensors = read_tensors(folder)
    take_shapes(learner, {name: tensor.shape for name, tensor in tensors.items()})
    parameters = learner.learnt()
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
