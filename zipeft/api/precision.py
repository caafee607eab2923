"""The precision of losses and heads, whatever a model computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or in the wider type that it has."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
