"""Which norm an attention layer's input comes from."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.errors import UserError


class _Reached(Exception):
    def __init__(self, taken: Tensor) -> None:
        self.taken = taken


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the first tensor that a module is called with: an attention layer's hidden states."""
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


@torch.no_grad()
def input_norm(block: nn.Module, attention: nn.Module, width: int) -> nn.Module:
    """Return the module of a block whose output, as it is, the block's attention layer takes.

    It is found by running the block, on one token (1, 1, width), as far as its attention.

    Raises: ``UserError`` for a block that hands its attention something else (one that normalises behind it, say).
    """
    made: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        made.append((module, output))

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(first_tensor(args, kwargs))

    norms = [module for module in block.modules() if "norm" in type(module).__name__.lower()]
    own = list(block.parameters())
    like = next((p for p in own if p.dim() > 1 and p.is_floating_point()), own[0].float())
    unknown = list(inspect.signature(block.forward).parameters.values())[1:]
    none = {
        each.name: None for each in unknown if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    }
    with ExitStack() as stack:
        for norm in norms:
            stack.enter_context(norm.register_forward_hook(keep))
        stack.enter_context(attention.register_forward_pre_hook(stop, prepend=True, with_kwargs=True))
        try:
            block(like.new_ones(1, 1, width), **none)
        except _Reached as reached:
            found = next((module for module, output in made if output is reached.taken), None)
        except Exception:  # of a block that needs more than a token to come to its attention
            found = None
    if found is None:
        raise UserError(
            f"{type(block).__name__} does not hand its attention the output of a norm: leave prompt_norm out"
        )
    return found
