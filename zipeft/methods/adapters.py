"""Adapters behind the layers of a block: Houlsby's (arXiv 1902.00751) and Pfeiffer's (arXiv 2005.00247)."""

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
class Pfeiffer(Method):
    """Pfeiffer's adapters: a bottleneck behind each feed-forward (arXiv 2005.00247)."""

    learning_rate: float = 1e-3
    bottleneck: int = 64
    dropout: float = 0.0

    family: ClassVar[str] = "adapters"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("text", "instruction")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    behind_attention: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("bottleneck", self.bottleneck)
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if a block has no linear layers that a method could follow."""
        from zipeft.modules.bottleneck import insert_behind

        ends = [end for block in backbone.blocks(model) for end in self._ends(block)]
        insert_behind(ends, bottleneck=self.bottleneck, dropout=self.dropout)

    def _ends(self, block: nn.Module) -> list[nn.Linear]:
        """Return the last linear layer of a block, which ends its feed-forward, and if adapters are behind attention
        too the last one of what has attention in its name."""
        from torch import nn

        layers = [(name, part) for name, part in block.named_modules() if isinstance(part, nn.Linear)]
        attention = [part for name, part in layers if "att" in name.lower()]
        if not layers or (self.behind_attention and not attention):
            raise UserError(f"{type(block).__name__} has no linear layers that an adapter could follow")
        return [*([attention[-1]] if self.behind_attention else []), layers[-1][1]]


@dataclass(frozen=True)
class Houlsby(Pfeiffer):
    """Houlsby's adapters: a bottleneck behind attention and one behind the feed-forward (arXiv 1902.00751)."""

    behind_attention: ClassVar[bool] = True
