"""Convpass: convolutions of patches beside the layers of a block (arXiv 2207.07039)."""

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
class Convpass(Method):
    """Convpass: narrow convolutions of patches beside attention and feed-forward layers (arXiv 2207.07039)."""

    learning_rate: float = 1e-3
    bottleneck: int = 8
    scale: float = 1.0
    dropout: float = 0.0

    family: ClassVar[str] = "adapters"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image", "image-text")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), "scale": Range(0.1, 10.0), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("bottleneck", self.bottleneck)
        require(self.scale > 0, "scale must be above 0")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the model makes no patches by a convolution, or a block has no layer to pass by."""
        from zipeft.modules.conv_bypass import insert

        try:
            insert(
                model,
                backbone.blocks(model),
                width=backbone.hidden_width(model),
                bottleneck=self.bottleneck,
                leading=backbone.leading_tokens(model),
                scale=self.scale,
                dropout=self.dropout,
            )
        except UserError as error:
            raise UserError(f"convpass: {error}") from error
