"""CLIP-Adapter (arXiv 2110.04544)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class CLIPAdapter(Method):
    """CLIP-Adapter: a bottleneck on the image's features, mixed with them (arXiv 2110.04544).

    f* = ratio * ReLU(f W1) W2 + (1 - ratio) * f, as section 3.2 has it for the image's features f, which is the form
    that the paper takes for its comparisons. The authors' code has another ReLU behind W2.
    """

    learning_rate: float = 1e-3
    bottleneck: int = 0
    """Width of what is between W1 and W2; 0 for a quarter of the features' width, as in the paper."""
    ratio: float = 0.2
    """The part of the adapted features: the paper's alpha."""

    family: ClassVar[str] = "CLIP's features"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), "ratio": Range(0.1, 0.9, log=False)}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bottleneck:
            require_size("bottleneck", self.bottleneck)
        require(0 < self.ratio <= 1, "ratio must be above 0 and at most 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        from zipeft.api.backbone import ImageTextBackbone
        from zipeft.modules.feature_adapter import FeatureAdapter

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        width, device = backbone.width(model), next(model.parameters()).device
        bottleneck = self.bottleneck or max(width // 4, 1)
        backbone.adapt_matching(model, FeatureAdapter(width, bottleneck, self.ratio, device))
