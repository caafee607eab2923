"""Modules that change a model by hooks on its layers: how they come off it again, or into its weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from zipeft.errors import UserError
from zipeft.modules.projected_attention import own_attention


class Hooked(nn.Module):
    """A module that acts by hooks on layers of a model, of which it is a submodule; their ``handles`` take it off."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[RemovableHandle] = []

    def merge(self) -> None:
        """Put what it does into the frozen weights. Raises ``UserError`` where no weight can stand for it."""
        raise UserError(f"{type(self).__name__} cannot be merged: no weight of the model computes what it does")


def detach(model: nn.Module) -> None:
    """Take hooked modules off a model, in place: it is then the frozen model that it was before."""
    for name, part in list(_hooked(model)):
        for handle in part.handles:
            handle.remove()
        parent, _, own = name.rpartition(".")
        delattr(model.get_submodule(parent), own)
    own_attention(model)


def merge(model: nn.Module) -> None:
    """Put what hooked modules do into a model's weights, in place, and take them off.

    The weights are then the model's own: those that it shared with others stay as they are. Sums are made in float32
    and rounded once.

    Raises: ``UserError`` for modules that no weight can stand for, and for quantised weights.
    """
    for _, part in _hooked(model):
        part.merge()
    detach(model)


def replace_weights(layer: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    """Give a layer other weights, in the dtype of those that it has, and another bias where one is given."""
    layer.weight.data = weight.to(layer.weight.dtype)
    if bias is None:
        return
    if layer.bias is None:
        layer.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=False)
    else:
        layer.bias.data = bias.to(layer.bias.dtype)


def weight_of(layer: nn.Linear) -> Tensor:
    """Return a layer's weight in float32, or in float64 if it is. Raises ``UserError`` if it is quantised."""
    if not layer.weight.is_floating_point():
        raise UserError("quantised weights cannot be merged into: take dtype=bf16")
    return layer.weight.detach().to(torch.promote_types(layer.weight.dtype, torch.float32))


def linear(hidden: Tensor, layer: nn.Linear) -> Tensor:
    """Return what a layer in float32 makes of hidden states, in their dtype."""
    bias = None if layer.bias is None else layer.bias.to(hidden.dtype)
    return functional.linear(hidden, layer.weight.to(hidden.dtype), bias)


def _hooked(model: nn.Module) -> Iterator[tuple[str, Hooked]]:
    return ((name, part) for name, part in model.named_modules() if isinstance(part, Hooked))
