"""Half precision on a CPU that has no arithmetic for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

HALVES = (torch.bfloat16, torch.float16)

aten = torch.ops.aten
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default
PRODUCTS = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten.convolution.default,
    aten.convolution_backward.default,
    ATTENTION,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    # What these are made of is not seen where gradients are off for good, as in inference mode.
    aten.matmul.default,
    aten.linear.default,
    aten.conv2d.default,
    aten.scaled_dot_product_attention.default,
}


def products_in_float32(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which products of half-precision numbers are fast on a device.

    PyTorch's kernels for bf16 (or fp16) on a CPU without instructions for it take many times as long as those for
    float32. There, products are made in float32 from the rounded numbers, and rounded: what such instructions do, which
    add up in float32 too. On any other device nothing is changed.
    """
    return _InFloat32() if device.type == "cpu" and any(map(_is_slow, HALVES)) else nullcontext()


class _InFloat32(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        halves = {x.dtype for x in tree_leaves((args, kwargs)) if _is_half(x)} if func in PRODUCTS else set()
        if not any(map(_is_slow, halves)):
            return func(*args, **kwargs)
        (half,) = halves
        args, kwargs = tree_map_only(Tensor, lambda x: x.float() if _is_half(x) else x, (args, kwargs))
        result = func(*args, **kwargs)
        if func is ATTENTION:  # beside its result it returns sums of the softmax, which are float32 in any case
            return result[0].to(half), *result[1:]
        return tree_map_only(Tensor, lambda x: x.to(half), result)


def _is_half(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype in HALVES


def _is_slow(dtype: torch.dtype) -> bool:
    """Whether PyTorch has no kernels of oneDNN's for products in a dtype on this CPU."""
    if dtype == torch.bfloat16:
        return not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return not torch.ops.mkldnn._is_mkldnn_fp16_supported()
