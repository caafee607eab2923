"""Which attention kernel torch takes on a device: recorded from the operators that really run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from zipeft.doctor.check import Check
from zipeft.doctor.machine import DTYPES
from zipeft.modules.gated_attention import attend

OPERATORS = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_flash_attention_for_cpu": "flash",
    "_scaled_dot_product_efficient_attention": "memory-efficient",
    "_scaled_dot_product_cudnn_attention": "cuDNN",
    "_scaled_dot_product_fused_attention_overrideable": "fused",
    "_scaled_dot_product_attention_math_for_mps": "MPS",
    "_softmax": "plain",
    "_safe_softmax": "plain",
}
"""What each operator of torch is called here. A plain softmax is what the kernels that are not fused have."""

HEADS, TOKENS, WIDTH, PROMPTS = 8, 64, 64, 10


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect the kernels that attention takes in this context, in turn: "flash", "memory-efficient", "plain", ..."""
    kernels: list[str] = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if (name := func.overloadpacket.__name__) in OPERATORS:
                kernels.append(OPERATORS[name])
            return func(*args, **(kwargs or {}))

    with Record():
        yield kernels


def attention(where: torch.device) -> Check:
    """Say which kernel a frozen layer takes, without padding and with it, and which one a gated prompt."""
    lines, plain = [], []
    for name, dtype in DTYPES.items():
        kernels = {what: _kernel(call, where, dtype) for what, call in _CALLS.items()}
        lines.append(f"{name}: " + ", ".join(f"{what} {kernel}" for what, kernel in kernels.items()))
        plain += [name for kernel in kernels.values() if kernel == "plain"]
    advice = "attention without a fused kernel takes more memory: see whether a newer torch has one" if plain else ""
    return Check("attention", "; ".join(lines), "note" if plain else "ok", advice)


def _kernel(call: Callable[..., Any], where: torch.device, dtype: torch.dtype) -> str:
    query = torch.randn(2, HEADS, TOKENS, WIDTH, device=where).to(dtype).requires_grad_()
    try:
        with recorded() as kernels:
            call(query)
    except RuntimeError:  # how torch says that a device has no kernel for it
        return "none"
    return kernels[0] if kernels else "unknown"


def _causal(query: torch.Tensor) -> None:
    functional.scaled_dot_product_attention(query, query, query, is_causal=True)


def _padded(query: torch.Tensor) -> None:
    mask = torch.ones(len(query), 1, TOKENS, TOKENS, dtype=torch.bool, device=query.device).tril()
    functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)


def _gated(query: torch.Tensor) -> None:
    prompts = query[0, :, :PROMPTS]
    attend(query, prompts, prompts, WIDTH**-0.5)


_CALLS: Mapping[str, Callable[[torch.Tensor], None]] = {
    "frozen": _causal,
    "with padding": _padded,
    "gated prompt": _gated,
}
