"""Linear layers with quantised weights, by bitsandbytes (the extra ``quantised``), imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.errors import UserError

KINDS = ("int8", "nf4")

BLOCK = 64
"""Numbers that share a scale in nf4. bitsandbytes 0.50 misreads, on a CPU, blocks that reach over the end of a row."""

THRESHOLD = 6.0
"""Inputs of a larger size are multiplied in sixteen bits (LLM.int8(), section 3.2)."""


def quantise(parts: Iterable[nn.Module], kind: str, device: torch.device) -> None:
    """Put a layer with quantised weights, on a device, in the place of each plain linear layer of parts of a model.

    "int8" are rows of eight-bit integers with a scale each (LLM.int8(), arXiv 2208.07339); "nf4" blocks of 64 numbers
    of four bits with scales that are quantised again (QLoRA, arXiv 2305.14314). A subclass of ``nn.Linear`` is left
    alone: who reads its weight is not known. So is, for nf4, a layer whose inputs are not whole blocks.

    Raises: ``UserError`` if there is no such layer, or no bitsandbytes.
    """
    found = False
    for part in parts:
        for module in list(part.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Linear and (kind != "nf4" or child.in_features % BLOCK == 0):
                    setattr(module, name, _quantised(child, kind, device))
                    found = True
    if not found:
        raise UserError(f"this model's blocks have no linear layers that {kind} is for: take dtype=bf16")


def _quantised(linear: nn.Linear, kind: str, device: torch.device) -> nn.Module:
    sizes = linear.in_features, linear.out_features
    layer = _classes()[kind](*sizes)
    layer.weight = layer.weight_of(linear.weight.data).to(device)
    if linear.bias is not None:
        layer.own_bias = nn.Parameter(linear.bias.data.to(device, copy=True), requires_grad=False)
    return layer.train(linear.training)


def alias(parameter: Any) -> nn.Parameter:
    """Return a new parameter on the storage of a quantised one."""
    import bitsandbytes

    if isinstance(parameter, bitsandbytes.nn.Int8Params):
        return bitsandbytes.nn.Int8Params(
            parameter.data, requires_grad=False, has_fp16_weights=False, CB=parameter.CB, SCB=parameter.SCB
        )
    copied = parameter.__copy__()
    copied.module = None  # the layer that it was made for
    return copied


def size(parameter: Any) -> int:
    """Return how many numbers a parameter holds."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


@cache
def _classes() -> dict[str, Any]:
    """Return the classes of quantised layers by their kinds."""
    import bitsandbytes

    linear_8bit: Any = bitsandbytes.nn.Linear8bitLt
    linear_4bit: Any = bitsandbytes.nn.Linear4bit

    class OwnBias:
        """Adds a layer's bias by itself, and computes in autocast's dtype: bitsandbytes knows nothing of autocast, and
        would cast the bias, in place, to the dtype of whatever comes in."""

        own_bias: Tensor | None
        takes: torch.dtype | None
        int8_original_dtype = torch.bfloat16
        """open_clip asks a quantised layer for the dtype around it."""

        def forward(self, inputs: Tensor) -> Tensor:
            kind = inputs.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
            output = super().forward(inputs.to(self.takes or dtype)).to(dtype)  # type: ignore[misc]  # the layer's
            return output if self.own_bias is None else output + self.own_bias.to(dtype)

    class Int8Linear(OwnBias, linear_8bit):  # type: ignore[misc]  # without the extra the layer has no type
        takes = torch.float16  # it would take others with a warning each time

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs, bias=False, has_fp16_weights=False, threshold=THRESHOLD, device="meta")
            self.register_parameter("own_bias", None)

        def weight_of(self, weight: Tensor) -> Any:
            return bitsandbytes.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)

    class NF4Linear(OwnBias, linear_4bit):  # type: ignore[misc]  # without the extra the layer has no type
        takes = None

        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs, bias=False, quant_type="nf4", device="meta")
            self.register_parameter("own_bias", None)
            self.compute_type_is_set = True  # it computes in the dtype of its inputs
            # On a CPU it would pack its weights anew at the first forward without gradients, and runs share them.
            self.support_avx512bf16_for_cpu = False

        def weight_of(self, weight: Tensor) -> Any:
            return bitsandbytes.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")

    return {"int8": Int8Linear, "nf4": NF4Linear}
