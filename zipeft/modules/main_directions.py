"""The main directions of what layers are given, by running a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class Moments:
    """How many inputs (..., width) there were, and the sums of them and of their products, in float64."""

    def __init__(self) -> None:
        self.count: int = 0
        self.total: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def see(self, _layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Take in what a layer is given; a forward pre-hook."""
        inputs = args[0].detach().flatten(0, -2).double()
        self.count += len(inputs)
        self.total = self.total + inputs.sum(0)
        self.products = self.products + inputs.T @ inputs

    def directions(self, count: int) -> Tensor:
        """Return the first singular vectors (count, width) of the inputs around their mean."""
        assert isinstance(self.total, Tensor), "the layer was given nothing"
        mean = self.total / self.count
        covariance = self.products / self.count - torch.outer(mean, mean)
        return torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :count].T


@torch.no_grad()
def main_directions(layers: Mapping[str, nn.Module], run: Callable[[], None], count: int) -> dict[str, Tensor]:
    """Return the main directions (count, width) of what each layer is given while ``run`` runs their model.

    Of the largest variance first; signs are arbitrary. All inputs count, so the result does not depend on batches.
    """
    moments = {name: Moments() for name in layers}
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.enter_context(layer.register_forward_pre_hook(partial(Moments.see, moments[name])))
        run()
    return {name: each.directions(count) for name, each in moments.items()}
