"""What is known of a batch's padding, for ``transformers``: to make masks it would ask the GPU for it in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PADDING = "padding"
"""Of inputs: row and column of each token that is padding, (n, 2); their number is known without a look at them."""

_padded: ContextVar[bool | None] = ContextVar("padded", default=None)


def located(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch on the CPU with the places of its padding, if it has a mask."""
    if "attention_mask" not in inputs:
        return inputs
    return inputs | {PADDING: (inputs["attention_mask"] == 0).nonzero()}


@contextmanager
def known(inputs: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Let models make the same masks as ever in this context without a look at the padding, if its places are known;
    yield the inputs that they take."""
    import torch

    taken = {name: value for name, value in inputs.items() if name != PADDING}
    if torch.compiler.is_compiling():  # a graph looks at no values
        yield taken
        return
    _install()
    token = _padded.set(len(inputs[PADDING]) > 0 if PADDING in inputs else None)
    try:
        yield taken
    finally:
        _padded.reset(token)


@cache
def _install() -> None:
    """Wrap the function that makes masks for fused attention; outside of ``known`` it does what it did."""
    from transformers import AttentionMaskInterface

    make: Callable[..., Any] = AttentionMaskInterface()["sdpa"]

    def sdpa_mask(*args: Any, **options: Any) -> Any:
        if (padded := _padded.get()) is not None:
            if padded:  # no mask can be left out, which is what it would look for
                options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
            else:
                options["attention_mask"] = None
        return make(*args, **options)

    AttentionMaskInterface.register("sdpa", sdpa_mask)
