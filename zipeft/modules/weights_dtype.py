"""The dtypes in which frozen weights are held, and the autocast that computes with them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from zipeft.modules import quantised_linear

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Weights of other lower dtypes have bf16 around them."""


def lower(model: nn.Module, blocks: Iterable[nn.Module], dtype: str, device: torch.device) -> nn.Module:
    """Move a model to a device, in place, with its matrices in a dtype; return it.

    Each tensor is moved by itself, out of the file that it may be mapped from. Vectors (biases, norms, scales) stay
    float32: they take next to no memory, some train, and kernels want those of a norm in one dtype. Quantised are the
    plain linear layers in ``blocks``; where there is no memory, on the meta device, they are bfloat16.
    """
    if dtype in quantised_linear.KINDS and device.type != "meta":
        quantised_linear.quantise(blocks, dtype, device)
    half = torch.float32 if dtype == "fp32" else HALVES.get(dtype, torch.bfloat16)
    for parameter in model.parameters():
        if type(parameter) is nn.Parameter:  # others are quantised
            lowered = half if parameter.dim() > 1 and parameter.dtype == torch.float32 else parameter.dtype
            parameter.data = parameter.data.to(device, lowered, copy=True)
    return model.to(device)


def autocast(model: nn.Module, dtype: str) -> AbstractContextManager[Any]:
    """Return autocast for a model whose weights are in a lower dtype, or nothing where it is on already."""
    kind = next(model.parameters()).device.type
    if not torch.amp.is_autocast_available(kind) or torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, HALVES.get(dtype, torch.bfloat16))


def alias(parameter: nn.Parameter) -> nn.Parameter:
    """Return a new parameter, which does not train, on the storage of another one."""
    if type(parameter) is nn.Parameter:
        return nn.Parameter(parameter.detach(), requires_grad=False)
    return quantised_linear.alias(parameter)


def parameter_count(model: nn.Module) -> int:
    """Return how many parameters a model has, of quantised weights too, which pack two into a byte."""
    return sum(quantised_linear.size(p) for p in model.parameters())
