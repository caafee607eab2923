"""Tensors of a model that do not train and that no settings decide: a saved adapter holds them beside what trains."""

from __future__ import annotations

from torch import Tensor, nn

HELD = "zipeft_held"
"""Of a module: the names of its buffers that are held."""


def hold(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a module a buffer, float32, that saved adapters and checkpoints hold. Training data may decide its values
    (see ``Method.initialise``), and settings alone its shape."""
    module.register_buffer(name, tensor.float())
    vars(module).setdefault(HELD, []).append(name)


def held(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a model that are held, by name."""
    return {
        f"{path}.{name}" if path else name: module.get_buffer(name)
        for path, module in model.named_modules()
        for name in vars(module).get(HELD, ())
    }
