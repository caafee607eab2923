"""RepAdapter: linear adapters that weights can take in (arXiv 2302.08106)."""

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
class RepAdapter(Method):
    """RepAdapter: linear adapters in front of attention and feed-forward layers (arXiv 2302.08106)."""

    learning_rate: float = 1e-3
    bottleneck: int = 8
    groups: int = 2
    """The adapter's second layer is dense within each of these equal parts of the numbers."""
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
        require_size("groups", self.groups)
        require(self.bottleneck % self.groups == 0, "groups must divide bottleneck")
        require(self.scale > 0, "scale must be above 0")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if a block has no linear layers that read hidden states, or ``groups`` do not divide
        their width."""
        from zipeft.modules.rep_adapter import insert

        try:
            insert(
                model,
                backbone.blocks(model),
                width=backbone.hidden_width(model),
                bottleneck=self.bottleneck,
                groups=self.groups,
                scale=self.scale,
                dropout=self.dropout,
            )
        except UserError as error:
            raise UserError(f"repadapter: {error}") from error
