"""Finds, on a CPU, where a step would make the host wait for a GPU: where it reads values, or shapes hang on them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "equal"}
"""Operators whose result the host needs before it can go on."""

INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
METHODS = {Tensor.tolist, Tensor.cpu, Tensor.numpy}
"""What reads values without an operator, where the tensor is on the CPU."""


class Waits(AssertionError):
    """The host would wait here."""


class _Operators(TorchDispatchMode):
    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__()
        self.allowed = allowed

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in READS or (name in INDEXES and _by_mask(args[1])):
            self.check(name)
        return func(*args, **(kwargs or {}))

    def check(self, name: str) -> None:
        frames = traceback.extract_stack(sys._getframe(1))
        if not any(place in f"{frame.filename}:{frame.name}" for frame in frames for place in self.allowed):
            raise Waits(f"{name} makes the host wait for a GPU")


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in METHODS:
            raise Waits(f"{func.__name__} makes the host wait for a GPU")
        return func(*args, **(kwargs or {}))


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def no_waiting(allowed: tuple[str, ...] = ()) -> Iterator[None]:
    """Raise ``Waits`` where a GPU would be waited for.

    ``allowed`` are parts of "file:function" below which it may be; what is not seen are Python lists as indices, and
    tensors that are made on the CPU and copied.
    """
    with _Operators(allowed), _Methods():
        yield
