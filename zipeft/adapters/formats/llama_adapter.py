"""The layout of LLaMA-Adapter's published checkpoints: a state dict that ``torch.save`` wrote.

- ``adapter_query.weight``: (layers * length, width), the prompts of the top layers, lowest layer first;
- ``layers.{n}.attention.gate`` for every layer n of the model; those of the top layers count:
  (1, heads, 1, 1), one gate a head, or (1,), one a layer.

Two things are not in the file. How long a prompt is follows from the gates: below the top layers they are zero. Whether
tanh is applied to a gate is a matter of the code: that which trains one gate a head applies it, that which was released
for inference does not, and the first version, with one gate a layer, never did.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from zipeft.adapters.formats.files import read_floats
from zipeft.adapters.formats.gated_prompts import GatedPrompts
from zipeft.errors import UserError
from zipeft.files import write_atomically

FILE = "adapter.pth"
PROMPTS = "adapter_query.weight"
GATE = re.compile(r"layers\.(0|[1-9]\d{0,3})\.attention\.gate")

Gates = Mapping[int, Tensor]
"""The gate of each layer, by its number."""


def read(path: Path, *, length: int | None = None, gate_activation: str | None = None) -> GatedPrompts:
    """Return the prompts of a checkpoint.

    Args:
        path: the file.
        length: tokens of each layer's prompt; None to find it from the gates.
        gate_activation: what the code that it was made with applies to a gate, "tanh" or "none"; None is "none" where
            there is one gate a layer, and an error where there is one a head.

    Raises: ``UserError`` if the file is damaged or of another layout, and where one of the two has to be given.
    """
    tensors = read_floats(path)
    rows = tensors.pop(PROMPTS, None)
    if rows is None or rows.dim() != 2 or not rows.numel():
        raise UserError(f"{path} is no checkpoint of LLaMA-Adapter: it has no table {PROMPTS}")
    gates = _gates(path, tensors)
    depth = max(gates) + 1
    length = length or _found_length(path, len(rows), gates)
    layers, rest = divmod(len(rows), length)
    if rest or not 0 < layers <= depth:
        raise UserError(
            f"{path} has {len(rows)} rows of prompts for at most {depth} layers, which prompts of {length} tokens do "
            "not fit: give another --length"
        )
    _check_lower(path, gates, depth - layers, length)
    return GatedPrompts(
        rows.unflatten(0, (layers, length)),
        torch.stack([gates[layer].flatten() for layer in range(depth - layers, depth)]),
        _activation(gate_activation, one_a_head=gates[depth - 1].dim() == 4),
        depth,
    )


def write(folder: Path, gated: GatedPrompts, *, gate_activation: str | None = None) -> list[str]:
    """Write prompts as ``FILE`` into a folder, and return what is to be said of it.

    ``gate_activation`` is what the code that will read it applies to a gate, with the same default as in ``read``.
    Raises ``UserError`` where it has to be given, and where it is "tanh" and the prompts go without.
    """
    stored = _stored(gated, gate_activation)
    gates = torch.zeros(gated.depth, gated.gates.shape[1])
    gates[-len(stored.gates) :] = stored.gates
    shape = (1, -1, 1, 1) if gates.shape[1] > 1 else (1,)
    state = {f"layers.{layer}.attention.gate": gate.reshape(shape).clone() for layer, gate in enumerate(gates)}
    buffer = io.BytesIO()
    torch.save({PROMPTS: stored.prompts.flatten(0, 1), **state}, buffer)
    write_atomically(folder / FILE, buffer.getvalue())
    tanh = stored.gate_activation == "tanh"
    applied = "before tanh: for code that applies it" if tanh else "for code that applies no tanh"
    return [f"the gates are stored {applied}"]


def _gates(path: Path, tensors: Mapping[str, Tensor]) -> Gates:
    """Return the gates. Raises ``UserError`` if one is missing or of another shape, or for anything beside them."""
    gates = {}
    for name, tensor in tensors.items():
        match = GATE.fullmatch(name)
        if not match:
            raise UserError(
                f"{path} also holds {name!r}, which would be lost: only prompts and gates can be taken over, not the "
                "multimodal form or the second version"
            )
        if tensor.shape != (1,) and not (tensor.dim() == 4 and tensor.numel() == tensor.shape[1]):
            raise UserError(f"{path}: {name} is {tuple(tensor.shape)}; a gate is (1,) or (1, heads, 1, 1)")
        gates[int(match[1])] = tensor
    if not gates:
        raise UserError(f"{path} is no checkpoint of LLaMA-Adapter: it has no layers.N.attention.gate")
    if missing := set(range(max(gates))) - gates.keys():
        raise UserError(f"{path} is damaged: it lacks layers.{min(missing)}.attention.gate")
    if len({tensor.shape for tensor in gates.values()}) > 1:
        raise UserError(f"{path} is damaged: its gates have more than one shape")
    return gates


def _found_length(path: Path, rows: int, gates: Gates) -> int:
    """Return the length of a prompt: the gates of layers without one have never left zero.

    Those of a layer with one may not have left it either. So the file does not tell where more layers would do as well.
    """
    depth = max(gates) + 1
    layers = depth - min((layer for layer, gate in gates.items() if gate.any()), default=depth)
    fitting = [rows // count for count in range(max(layers, 1), depth + 1) if rows % count == 0]
    if not layers:
        why = "all gates are 0"
    elif rows % layers:
        why = f"{rows} rows of prompts are no multiple of the {layers} layers with gates"
    elif len(fitting) > 1:
        why = f"those of {' or '.join(map(str, fitting))} tokens fit, as gates of lower layers are 0"
    else:
        return fitting[0]
    raise UserError(f"{path} does not tell how long its prompts are ({why}): give --length, 10 in those published")


def _check_lower(path: Path, gates: Gates, lowest: int, length: int) -> None:
    """Raise ``UserError`` unless the gates below the layer ``lowest`` are zero, as they have no prompt."""
    lower = [layer for layer, gate in gates.items() if layer < lowest and gate.any()]
    if lower:
        raise UserError(
            f"{path} has a gate in layer {min(lower)}, but prompts of {length} tokens reach down to layer {lowest}: "
            "give another --length"
        )


def _stored(gated: GatedPrompts, gate_activation: str | None) -> GatedPrompts:
    """Return prompts whose gates are such as code expects that applies ``gate_activation``."""
    if gated.gate_activation == "none" and gate_activation == "tanh":
        raise UserError(
            "the adapter applies no tanh to its gates, and code that does would weaken them: --gate-activation none"
        )
    if gated.gate_activation == "none" or _activation(gate_activation, one_a_head=gated.gates.shape[1] > 1) == "tanh":
        return gated
    return gated.activated()


def _activation(asked: str | None, one_a_head: bool) -> str:
    if asked is None and one_a_head:
        raise UserError(
            "code for one gate a head differs in what it does to a gate, and a checkpoint does not tell: give "
            "--gate-activation tanh (the published training code), or --gate-activation none (the code released for "
            "inference)"
        )
    return asked or "none"
