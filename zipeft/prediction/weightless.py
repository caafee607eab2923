"""Computing with shapes: a model whose weights are nowhere takes real steps, of which only sizes are known.

Weights and all that depends on them are fake tensors of PyTorch. What depends on no weight (token ids, masks, which
tokens are labelled) is computed, so that code that looks at it runs as it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only


@contextmanager
def weightless(device: str) -> Iterator[None]:
    """Compute with shapes alone, with the attention kernels and the dtypes that a kind of device ("cuda", "cpu") has.

    Fakes are tensors of the CPU whatever the device: autograd refuses those of a device that is not there. Attention is
    fused wherever the device has a kernel for it: it keeps queries, keys, values, its result and a number a query for
    the backward pass, and no weights (tokens x tokens).
    """
    attention, layer_norm = functional.scaled_dot_product_attention, functional.layer_norm
    if device != "cpu":
        attention, layer_norm = _without_dropout(attention), _in_float32(layer_norm)
    with (
        patch.object(functional, "scaled_dot_product_attention", attention),
        patch.object(functional, "layer_norm", layer_norm),
        FakeTensorMode(allow_non_fake_inputs=True),
        _RealWithoutWeights(),
    ):
        yield


def without_weights(module: nn.Module) -> nn.Module:
    """Turn a module on the meta device, in place, into one of fakes, inside ``weightless``; integers become zeros."""
    return module._apply(lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype))


def without_values(batch: Any) -> Any:
    """Return a batch with fakes for its floats, of which nothing but sizes matters; inside ``weightless``."""
    return tree_map_only(Tensor, _without_values, batch)


def _without_values(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype) if tensor.is_floating_point() else tensor


class _RealWithoutWeights(TorchDispatchMode):
    """Computes really what no fake goes into, but for new floats, and leaves the rest to the fakes."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if func is torch.ops.aten.index.Tensor:
                args = (args[0], [place for index in args[1] for place in _places(index)])
            return func(*args, **kwargs)
        if not tensors:
            made = func(*args, **kwargs)
            if not isinstance(made, Tensor) or made.is_floating_point():
                return made
        with _disable_current_modes():
            return func(*args, **kwargs)


def _places(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return where a mask is true, so that the number of places is known, or the index itself."""
    if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
        return (index,)
    with _disable_current_modes():
        return index.nonzero(as_tuple=True)


def _without_dropout(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return attention as the fused kernels of a GPU have it, which draw dropout and keep no mask of it; a CPU has no
    such kernel."""

    def fused(*args: Any, dropout_p: float = 0.0, **options: Any) -> Tensor:
        return attention(*args[:4], *[0.0] * (len(args) > 4), *args[5:], **options)

    return fused


def _in_float32(layer_norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return layer normalisation as the autocast of a GPU has it, which computes it in float32; a CPU's does not."""

    def in_float32(x: Tensor, shape: Any, *more: Any, **options: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return layer_norm(x, shape, *more, **options)
        weight_and_bias = [each.float() if isinstance(each, Tensor) else each for each in more]
        return layer_norm(x.float(), shape, *weight_and_bias, **options)

    return in_float32
