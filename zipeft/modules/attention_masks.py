"""Masks of PyTorch's own attention as its fused kernel takes them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def merge_masks(
    query: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool
) -> tuple[Tensor | None, bool]:
    """Return one additive mask that broadcasts to (batch, heads, queries, keys), and whether the kernel masks alone.

    Args:
        query: (batch, heads, queries, head dim).
        key_padding_mask: (batch, keys), ``attn_mask``: (queries, keys) or (batch * heads, queries, keys): booleans that
            are true where nothing is attended to, or numbers that are added.
        is_causal: whether ``attn_mask`` is the causal one.
    """
    if is_causal and key_padding_mask is None:
        return None, True
    mask = None if attn_mask is None else _additive(attn_mask, query.dtype)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(query.shape[0], -1, *mask.shape[1:])
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, query.dtype)[:, None, None]
        mask = padding if mask is None else mask + padding
    return mask, False


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
