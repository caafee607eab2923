"""What a splice is: how something learnt joins one class of attention layer."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from torch import Tensor, nn

from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt

PROMPT_NAME = "zero_gated_prompt"
"""Under this name a gated prompt is a submodule of the attention layer that it joins."""


class Splice(abc.ABC):
    """One gated prompt joined to one attention layer.

    A splice knows one class of attention: how to reach its queries before and its result after the softmax, and
    its key and value projections. It lives in the attention layer and holds no reference from outside, so that a
    deep copy of the model is a working model.

    A subclass that joins something else than a gated prompt gives it a ``name`` and overrides ``make``.
    """

    name: ClassVar[str] = PROMPT_NAME
    """Under this name what joins is a submodule of its attention layer."""

    def __init__(self, attention: nn.Module, joined: nn.Module) -> None:
        self.attention = attention
        self.joined = joined

    @classmethod
    def make(cls, attention: nn.Module, **settings: Any) -> nn.Module:
        """Return what is to join a layer, on the layer's device."""
        width, heads = cls.width_and_heads(attention)
        return ZeroGatedPrompt(width, heads, device=next(attention.parameters()).device, **settings)

    @classmethod
    @abc.abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether this splice joins layers such as ``module``."""

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        """Say why a layer of the kind that this splice joins is not joined; "" if it is, or is of another kind."""
        return ""

    @classmethod
    @abc.abstractmethod
    def width_and_heads(cls, attention: nn.Module) -> tuple[int, int]:
        """Return the width of the layer's input and the number of its query heads."""

    @abc.abstractmethod
    def install(self) -> None:
        """Make the layer take in what joins it."""

    @abc.abstractmethod
    def remove(self) -> None:
        """Undo ``install``, leaving no trace."""

    @abc.abstractmethod
    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (..., key-value heads, length, head dim) of prompts (..., length, width)."""

    def frozen(self) -> list[Tensor] | None:
        """Return the tensors that ``project`` reads; None where more than tensors decides its result."""
        return [tensor for name, tensor in self.attention.named_parameters() if not name.startswith(PROMPT_NAME)]

    def term(self, query: Tensor, scale: float) -> Tensor:
        """Return the gated term (batch, heads, queries, head dim) of a query of that shape."""
        return self.joined(query, self.project, scale, self.frozen)
