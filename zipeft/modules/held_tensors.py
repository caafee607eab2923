"""Tensors of a model that do not train and that no settings decide: a saved adapter holds them beside what trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

HELD = "zipeft_held"
"""Of a module: the names of its buffers that are held."""


def hold(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Give a module a buffer, float32, that saved adapters and checkpoints hold. Training data may decide its values
    (see ``Method.initialise``), and settings its shape, unless the module is ``SizedByData``."""
    module.register_buffer(name, tensor.float())
    vars(module).setdefault(HELD, []).append(name)


def held(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a model that are held, by name."""
    return {
        f"{path}.{name}" if path else name: module.get_buffer(name)
        for path, module in model.named_modules()
        for name in vars(module).get(HELD, ())
    }


class SizedByData(nn.Module):
    """A module of which settings decide the largest shapes, and training data what is left of them."""

    def take_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Shrink its tensors, in place, to the shapes that they are to have, by their names; those that would have to
        grow stay as they are."""
        raise NotImplementedError


def take_shapes(model: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give what training data has sized in a model the shapes of the tensors, by name, that are to fill it."""
    for path, module in _sized(model):
        module.take_shapes({name.removeprefix(path): shape for name, shape in shapes.items() if name.startswith(path)})


def settled_shapes(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    """Return the shapes of a model's tensors by name; an empty one for those that training data may size."""
    sized = tuple(path for path, _ in _sized(model))
    return {name: () if name.startswith(sized) else tensor.shape for name, tensor in tensors.items()}


def _sized(model: nn.Module) -> Iterator[tuple[str, SizedByData]]:
    """Yield the modules that training data sizes, each with what the names of its tensors begin with."""
    for path, module in model.named_modules():
        if isinstance(module, SizedByData):
            yield f"{path}." if path else "", module
