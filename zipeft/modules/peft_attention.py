"""Attention of PyTorch itself as peft's LoRA adapts it, with its frozen weights kept bit for bit.

``nn.MultiheadAttention`` reads its weights past any layer that could be adapted. peft therefore adds its update to them
for each forward pass and subtracts it again behind it, which leaves them off by rounding, more with each step.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def keep_frozen_weights(model: nn.Module) -> None:
    """Let each attention layer of PyTorch itself that LoRA adapts have the same frozen weights behind a forward pass as
    before it: the very parameters, whether the pass ends or fails."""
    from peft.tuners.lora.layer import MultiheadAttention

    for module in model.modules():
        if isinstance(module, MultiheadAttention):
            module.register_forward_pre_hook(_remember)
            module.register_forward_hook(_put_back, always_call=True)


def _remember(attention: Any, _: Any) -> None:
    if not attention.merged:
        base = attention.base_layer
        attention.frozen_weights = base.in_proj_weight, base.out_proj.base_layer.weight  # a tuple is not registered


def _put_back(attention: Any, *_: Any) -> None:
    if not attention.merged:
        base = attention.base_layer
        base.in_proj_weight, base.out_proj.base_layer.weight = attention.frozen_weights
        del attention.frozen_weights
