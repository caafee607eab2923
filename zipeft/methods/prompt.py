"""Prompt tuning: learnt tokens that join the sequence (VPT, arXiv 2203.12119)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class Prompt(Method):
    """Prompt tuning: learnt tokens join the input of the first block (VPT-shallow, arXiv 2203.12119)."""

    learning_rate: float = 1e-2
    length: int = 10

    family: ClassVar[str] = "prompts"
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        from zipeft.modules.prompt_tokens import insert

        insert(backbone.blocks(model), entries=1, **self._place(backbone, model))

    def _place(self, backbone: Backbone, model: nn.Module) -> dict[str, int]:
        return {"length": self.length, "width": backbone.hidden_width(model), "offset": backbone.leading_tokens(model)}


@dataclass(frozen=True)
class DeepPrompt(Prompt):
    """Deep prompt tuning: fresh learnt tokens join the input of every block (VPT-deep, arXiv 2203.12119)."""

    learning_rate: float = 3e-3

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        from zipeft.modules.prompt_tokens import insert

        blocks = backbone.blocks(model)
        insert(blocks, entries=len(blocks), **self._place(backbone, model))
