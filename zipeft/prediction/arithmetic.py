"""How many floating-point operations a computation takes, by the shapes that go through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


class Arithmetic(TorchDispatchMode):
    """Counts ``flops`` of matrix products, attention and convolutions: a multiplication and an addition as two.

    It differs from PyTorch's own counter in two ways: it knows the fused attention of a CPU, and it hooks into no
    module, which would keep alive what checkpointing computes again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in OF_A_CPU:
            self.flops += OF_A_CPU[packet](*(each.shape for each in args if isinstance(each, torch.Tensor)))
        elif packet in flop_registry:
            known: Any = flop_registry[packet]
            self.flops += known(*args, **kwargs, out_val=made)
        return made


def _forward(query: Any, key: Any, value: Any, *_: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _backward(grad: Any, query: Any, key: Any, value: Any, *_: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


OF_A_CPU: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
