"""What a splice is: how something learnt joins one class of attention layer."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zipeft.modules.gated_attention import check
from zipeft.modules.zero_gated_key_values import ZeroGatedKeyValues
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt

AttentionLayer: TypeAlias = Any
"""An ``nn.Module`` of another library, or a stranger's: what it holds is known to the splice that ``matches`` it."""

PROMPT_NAME = "zero_gated_prompt"
"""Under this name a gated prompt is a submodule of the attention layer that it joins."""

PROMPT_FORMS = ("tokens", "key_value")


class AttentionSplice(abc.ABC):
    """One learnt module joined to one attention layer.

    A splice knows one class of attention and how to change what it computes. It lives in the attention layer and holds
    no reference from outside, so that a deep copy of the model is a working model.
    """

    name: ClassVar[str]
    """Under this name what joins is a submodule of its attention layer."""

    def __init__(self, attention: AttentionLayer, joined: nn.Module) -> None:
        self.attention = attention
        self.joined: Any = joined

    @classmethod
    @abc.abstractmethod
    def make(cls, attention: AttentionLayer, **settings: Any) -> nn.Module:
        """Return what is to join a layer, on the layer's device."""

    @classmethod
    @abc.abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether this splice joins layers such as ``module``."""

    @classmethod
    def objection(cls, module: nn.Module) -> str:
        """Say why a layer of the kind that this splice joins is not joined; "" if it is, or is of another kind."""
        return ""

    @abc.abstractmethod
    def install(self) -> None:
        """Make the layer take in what joins it."""

    def settle(self) -> None:  # noqa: B027
        """Give what joined the layer, once that is installed, what it could not know before."""

    @abc.abstractmethod
    def remove(self) -> None:
        """Undo ``install``, leaving no trace."""


class Splice(AttentionSplice):
    """A ``ZeroGatedPrompt``, or ``ZeroGatedKeyValues``, joined to one attention layer.

    A subclass reaches the layer's queries before and its result after the softmax, and its key and value projections.
    """

    name: ClassVar[str] = PROMPT_NAME

    @classmethod
    def make(cls, attention: AttentionLayer, *, prompt_form: str = "tokens", **settings: Any) -> nn.Module:
        check("prompt_form", prompt_form, PROMPT_FORMS)
        width, heads = cls.width_and_heads(attention)
        device = next(attention.parameters()).device
        if prompt_form == "key_value":
            return ZeroGatedKeyValues(heads, device=device, **settings)
        return ZeroGatedPrompt(width, heads, device=device, **settings)

    @torch.no_grad()
    def settle(self) -> None:
        if self.joined.needs_sizes:
            width, _ = self.width_and_heads(self.attention)
            self.joined.fit(*self.project(self._like().new_zeros(1, width)))

    @torch.no_grad()
    def start_from(self, tokens: Tensor) -> None:
        """Let what joined the layer start from prompt tokens (length, width)."""
        self.joined.start_from(tokens.to(self._like()), self.project)

    def _like(self) -> Tensor:
        """Return a tensor on the device, and in the dtype, of what the layer projects."""
        own = [p for name, p in self.attention.named_parameters() if not name.startswith(self.name)]
        return next((p for p in own if p.dim() > 1 and p.is_floating_point()), own[0].float())

    @classmethod
    @abc.abstractmethod
    def width_and_heads(cls, attention: AttentionLayer) -> tuple[int, int]:
        """Return the width of the layer's input and the number of its query heads."""

    @abc.abstractmethod
    def project(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (..., key-value heads, length, head dim) of prompts (..., length, width)."""

    def frozen(self) -> Sequence[Tensor] | None:
        """Return the tensors that ``project`` reads; None where more than tensors decides its result."""
        return [tensor for name, tensor in self.attention.named_parameters() if not name.startswith(PROMPT_NAME)]

    def term(self, query: Tensor, scale: float, cap: float | None = None) -> Tensor:
        """Return the gated term (batch, heads, queries, head dim) of a query of that shape.

        ``cap`` bounds the layer's scores, where it does: a score s becomes ``cap * tanh(s / cap)``.
        """
        return self.joined(query, self.project, scale, self.frozen, cap)


class HookSplice(Splice):
    """Joins a layer by two hooks, so that its forward stays its own, fused kernel and masks and all.

    A subclass names the module that returns the queries as the softmax takes them, (batch, heads, queries, head dim),
    and the one that takes the result, (batch, queries, width), on its way to the output projection.
    """

    handles: list[RemovableHandle]

    @abc.abstractmethod
    def query_module(self) -> nn.Module:
        """Return the module whose output are the queries."""

    @abc.abstractmethod
    def result_module(self) -> nn.Module:
        """Return the module whose input is the result."""

    @abc.abstractmethod
    def scale(self) -> float:
        """Return what the layer multiplies its scores by."""

    def install(self) -> None:
        self.handles = [
            self.query_module().register_forward_hook(self._keep_query),
            self.result_module().register_forward_pre_hook(self._add_term),
        ]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()

    def _keep_query(self, _module: nn.Module, _args: tuple[Any, ...], query: Tensor) -> None:
        self.query = query

    def _add_term(self, _module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        term = self.term(self.query, self.scale())
        del self.query
        return (args[0] + term.transpose(1, 2).flatten(2),)
