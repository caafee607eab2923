"""What attention layers take while a model runs: vectors from which prompts may start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.splices.input_norm import first_tensor


class Reservoir:
    """So many vectors, on the CPU, each of those that were added with the same chance."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.vectors, self._priorities = torch.empty(0), torch.empty(0)

    def add(self, vectors: Tensor) -> None:
        """Add vectors (..., width)."""
        vectors = vectors.detach().flatten(0, -2).float().cpu()
        vectors = torch.cat([self.vectors, vectors]) if len(self.vectors) else vectors
        priorities = torch.cat([self._priorities, torch.rand(len(vectors) - len(self._priorities))])
        kept = priorities.topk(min(self.size, len(vectors))).indices
        self.vectors, self._priorities = vectors[kept], priorities[kept]


@torch.no_grad()
def layer_inputs(
    layers: Sequence[tuple[nn.Module, nn.Module | None]], run: Callable[[], None], size: int
) -> list[Tensor]:
    """Return ``size`` vectors (number, width) that each layer takes while ``run`` runs its model, fewer if it takes
    fewer; PyTorch's random numbers choose them.

    Args:
        layers: attention layers, each with the norm that it takes its input from if the norm's input is wanted.
    """
    reservoirs = [Reservoir(size) for _ in layers]
    with ExitStack() as stack:
        for (attention, norm), reservoir in zip(layers, reservoirs, strict=True):
            for handle in _listen(attention, norm, reservoir):
                stack.enter_context(handle)
        run()
    return [reservoir.vectors for reservoir in reservoirs]


def _listen(attention: nn.Module, norm: nn.Module | None, reservoir: Reservoir) -> list[Any]:
    """Add to a reservoir whatever an attention layer takes, or its norm: the norm's last input before the layer's call,
    since prompts pass the norm too."""
    last: list[Tensor] = []

    def keep(_norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        last[:] = [first_tensor(args, kwargs)]

    def add(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reservoir.add(last.pop() if norm is not None else first_tensor(args, kwargs))

    handles = [attention.register_forward_pre_hook(add, prepend=True, with_kwargs=True)]
    if norm is not None:
        handles.append(norm.register_forward_pre_hook(keep, with_kwargs=True))
    return handles
