"""Increments of all weights of a model as one tensor in factors (FacT, arXiv 2212.03145)."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zipeft.errors import UserError
from zipeft.modules.block_layers import linear_layers, project_blocks
from zipeft.modules.hooked import Hooked, replace_weights, weight_of


class Place(NamedTuple):
    """Where the slices of one layer's weight lie in the tensor: from ``first`` on, for each part of its inputs one for
    each part of its outputs; parts are as wide as the hidden states."""

    layer: nn.Linear
    first: int
    inputs: int
    outputs: int


class FactorTuning(Hooked, abc.ABC):
    """Increments of weights, cut into slices (width, width), which share the factors U and V:

        slice of the increment = scale * U core V

    with a core (rank, rank) for each slice. V starts at zero, and so do the increments.

    Args:
        width: of the hidden states.
        slices: how many there are: 12 of a block of ViT, 4 of attention and 8 of the feed-forward.
        rank: of each slice.
        scale: of the increments.
    """

    def __init__(self, width: int, slices: int, rank: int, scale: float, device: torch.device | None = None) -> None:
        super().__init__()
        self.width, self.scale = width, scale
        self.places: list[Place] = []
        self.u = nn.Parameter(torch.empty(width, rank, device=device, dtype=torch.float32))
        self.v = nn.Parameter(torch.zeros(rank, width, device=device, dtype=torch.float32))
        nn.init.xavier_uniform_(self.u)

    @abc.abstractmethod
    def cores(self, first: int, count: int) -> Tensor:
        """Return the cores (count, rank, rank) of some slices."""

    def core(self, place: Place) -> Tensor:
        """Return a layer's cores (parts of inputs, parts of outputs, rank, rank)."""
        return self.cores(place.first, place.inputs * place.outputs).unflatten(0, (place.inputs, place.outputs))

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """Return what a layer's increment makes of its inputs ``x`` (..., inputs * width), in their dtype."""
        u, core, v = (factor.to(x.dtype) for factor in (self.u, self.core(place), self.v))
        narrow = x.unflatten(-1, (place.inputs, self.width)) @ u
        return self.scale * (torch.einsum("...ai,abij->...bj", narrow, core) @ v).flatten(-2)

    def follow(self, place: Place, _layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """Add the increment's part to what a layer returns; a forward hook, but for its first argument."""
        return output + self(args[0], place)

    def join(self, place: Place) -> None:
        """Join a layer."""
        self.places.append(place)
        self.handles.append(place.layer.register_forward_hook(partial(self.follow, place)))

    @torch.no_grad()
    def merge(self) -> None:
        """Add the increments to the weights."""
        for place in self.places:
            weight = weight_of(place.layer)
            u, core, v = (factor.to(weight.dtype) for factor in (self.u, self.core(place), self.v))
            increment = torch.einsum("xi,abij,jy->byax", u, core, v).reshape(weight.shape)
            replace_weights(place.layer, weight + self.scale * increment)


class TensorTrain(FactorTuning):
    """FacT-TT, a tensor train: every slice has a core of its own, parameters 2*width*rank +
    slices*rank**2."""

    def __init__(self, width: int, slices: int, rank: int, scale: float, device: torch.device | None = None) -> None:
        super().__init__(width, slices, rank, scale, device)
        self.middle = nn.Parameter(torch.empty(slices, rank, rank, device=device, dtype=torch.float32))
        nn.init.uniform_(self.middle, -(rank**-0.5), rank**-0.5)

    def cores(self, first: int, count: int) -> Tensor:
        return self.middle[first : first + count]


class Tucker(FactorTuning):
    """FacT-TK, in the form of Tucker: cores are mixed from ``rank`` ones that all slices share, parameters
    2*width*rank + slices*rank + rank**3."""

    def __init__(self, width: int, slices: int, rank: int, scale: float, device: torch.device | None = None) -> None:
        super().__init__(width, slices, rank, scale, device)
        self.middle = nn.Parameter(torch.empty(rank, rank, rank, device=device, dtype=torch.float32))
        self.p = nn.Parameter(torch.empty(slices, rank, device=device, dtype=torch.float32))
        nn.init.xavier_uniform_(self.middle)
        nn.init.xavier_uniform_(self.p)

    def cores(self, first: int, count: int) -> Tensor:
        return torch.einsum("sp,pij->sij", self.p[first : first + count], self.middle)


def insert(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    form: type[FactorTuning],
    *,
    width: int,
    rank: int,
    scale: float,
) -> None:
    """Let the weights of attention and feed-forward in all blocks of a model have increments in one form.

    Raises: ``UserError`` if a block has no linear layers there, or they cannot be cut into slices (width, width).
    """
    project_blocks(model, blocks)
    places, first = [], 0
    for layer in (layer for block in blocks for part in linear_layers(block) for layer in part):
        if layer.in_features % width or layer.out_features % width:
            sizes = f"{layer.in_features} to {layer.out_features}"
            raise UserError(f"it cuts weights into squares of the width {width}, and a layer is of {sizes}")
        places.append(Place(layer, first, layer.in_features // width, layer.out_features // width))
        first += places[-1].inputs * places[-1].outputs
    factors = form(width, first, rank, scale, places[0].layer.weight.device)
    for place in places:
        factors.join(place)
    model.add_module("factor_tuning", factors)
