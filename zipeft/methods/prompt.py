"""Prompt tuning: learnt tokens that join the sequence (VPT, arXiv 2203.12119)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.api.settings import later_setting
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.backbone import Backbone

VOCABULARY = "vocabulary"
"""As ``initial``: tokens at random, in place of a sentence's."""


@dataclass(frozen=True)
class SequencePrompt(Method):
    """Learnt tokens that join the sequence, at whichever blocks."""

    learning_rate: float = 1e-2
    length: int = 10

    family: ClassVar[str] = "prompts"
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)

    def _place(self, backbone: Backbone, model: nn.Module) -> dict[str, Any]:
        return {"length": self.length, "width": backbone.hidden_width(model), "offset": backbone.leading_tokens(model)}


@dataclass(frozen=True)
class Prompt(SequencePrompt):
    """Prompt tuning: learnt tokens join the input of the first block (VPT-shallow, arXiv 2203.12119)."""

    initial: str = later_setting("")
    """For texts: a sentence from whose tokens, repeated or cut to ``length``, the learnt ones start; "vocabulary" for
    tokens at random (Lester et al., arXiv 2104.08691, section 3.2); empty for random numbers. They start as the hidden
    states with which the first block gets those tokens."""

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` for ``initial`` words where the backbone reads none, or that hold no token."""
        from zipeft.modules.prompt_tokens import insert

        start = self._start(backbone, model) if self.initial else None
        insert(backbone.blocks(model), entries=1, initial=start, **self._place(backbone, model))

    def _start(self, backbone: Backbone, model: nn.Module) -> Tensor:
        """Return the tokens (length, width) to start from."""
        from zipeft.api.backbone import TextBackbone
        from zipeft.methods.initial_words import random_words, words_of

        if not isinstance(backbone, TextBackbone):
            raise UserError(f"prompt.initial is {self.initial!r}, and {type(backbone).__name__} reads no words")
        if self.initial == VOCABULARY:
            return random_words(backbone, model, self.length)
        return words_of(backbone, model, self.initial, self.length)


@dataclass(frozen=True)
class DeepPrompt(SequencePrompt):
    """Deep prompt tuning: fresh learnt tokens join the input of every block (VPT-deep, arXiv 2203.12119)."""

    learning_rate: float = 3e-3

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        from zipeft.modules.prompt_tokens import insert

        blocks = backbone.blocks(model)
        insert(blocks, entries=len(blocks), **self._place(backbone, model))
