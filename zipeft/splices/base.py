"""What a splice is: how a prompt joins one class of attention layer."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from zipeft.prompt import ZeroGatedPrompt

PROMPT_NAME = "zero_gated_prompt"
"""Under this name the prompt is a submodule of the attention layer that it joins."""


class Splice(abc.ABC):
    """One prompt joined to one attention layer.

    A splice knows one class of attention: how to reach its queries before and its result after the softmax, and
    its key and value projections. It lives in the attention layer and holds no reference from outside, so that a
    deep copy of the model is a working model.
    """

    def __init__(self, attention: nn.Module, prompt: ZeroGatedPrompt) -> None:
        self.attention = attention
        self.prompt = prompt

    @classmethod
    @abc.abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether this splice joins layers such as ``module``."""

    @classmethod
    @abc.abstractmethod
    def width_and_heads(cls, attention: nn.Module) -> tuple[int, int]:
        """Return the width of the layer's input and the number of its query heads."""

    @abc.abstractmethod
    def install(self) -> None:
        """Make the layer add the prompt's term."""

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
        return self.prompt(query, self.project, scale, self.frozen)
