"""AdaptFormer: bottleneck adapters beside the feed-forward layers (arXiv 2205.13535)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class AdaptFormer(Method):
    """AdaptFormer: bottleneck adapters in parallel to the feed-forward layers (arXiv 2205.13535)."""

    learning_rate: float = 1e-3
    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.0

    family: ClassVar[str] = "adapters"
    modalities: ClassVar[tuple[str, ...]] = ("image", "image-text")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("bottleneck", self.bottleneck)
        require(self.scale > 0, "scale must be above 0")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if a block has no feed-forward layer that an adapter can join."""
        from zipeft.modules.bottleneck import insert

        insert(
            backbone.blocks(model),
            width=backbone.hidden_width(model),
            bottleneck=self.bottleneck,
            scale=self.scale,
            dropout=self.dropout,
        )
