"""Prefix tuning with a prefix in every layer: P-tuning v2 (arXiv 2110.07602)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class Prefix(Method):
    """Prefix tuning: learnt keys and values join every layer's attention (P-tuning v2, arXiv 2110.07602)."""

    learning_rate: float = 1e-2
    length: int = 16
    dropout: float = 0.0
    # Small values start near the frozen model: pooled features of a MiniLM keep a cosine of 0.98 to what they were, and
    # of 0.88 where they are drawn from N(0, 1), as nn.Embedding does in the paper's code and in peft.
    std: float = 0.02
    """Standard deviation of the initial values."""

    family: ClassVar[str] = "prompts"
    modalities: ClassVar[tuple[str, ...]] = ("text", "instruction")
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")
        require(self.std > 0, "std must be above 0")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if a block's attention is not one of transformers that a splice knows."""
        from zipeft.splices import PrefixSplice, attach

        blocks = backbone.blocks(model)
        if not all(any(map(PrefixSplice.matches, block.modules())) for block in blocks):
            raise UserError(
                f"prefix goes with attention layers of transformers, and {type(model).__name__} has others; "
                "deep_prompt goes with any"
            )
        attach(model, blocks=blocks, splices=[PrefixSplice], length=self.length, dropout=self.dropout, std=self.std)
