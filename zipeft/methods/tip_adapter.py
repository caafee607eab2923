"""Tip-Adapter and Tip-Adapter-F: a cache of the training images' features (arXiv 2111.03930)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.training_sample import TrainingSample


@dataclass(frozen=True)
class TipAdapter(Method):
    """Tip-Adapter: training images vote for their classes by how near they are; nothing trains (arXiv 2111.03930).

    To CLIP's logits is added alpha * exp(-beta * (1 - f F^T)) L (equations 5 and 6), with F the normalised features of
    training images, as they are without augmentation, and L their classes. Classes without training images, as the
    novel ones of base-to-novel generalisation, keep the logits of CLIP.
    """

    shots: int = 16
    """The most images of a class that are kept; as many as there are, where it has fewer."""
    alpha: float = 1.0
    """How much the votes count beside the texts."""
    beta: float = 5.5
    """How fast a vote falls off with the distance."""

    family: ClassVar[str] = "CLIP's features"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    space: ClassVar[Space] = {"alpha": Range(0.3, 10.0), "beta": Range(1.0, 10.0)}

    trains: ClassVar[bool] = False
    """Whether the kept features train."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("shots", self.shots)
        require(self.alpha > 0, "alpha must be above 0")
        require(self.beta > 0, "beta must be above 0")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if no classes are named."""
        from zipeft.api.backbone import ImageTextBackbone
        from zipeft.modules.feature_cache import FeatureCache

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        if not (names := backbone.classes(model)):
            raise UserError("tip_adapter keeps images of each class, and none are named: call name_classes first")
        sizes = backbone.width(model), self.shots
        device = next(model.parameters()).device
        backbone.adapt_matching(model, FeatureCache(names, *sizes, self.alpha, self.beta, self.trains, device))

    def sample_size(self) -> int:
        """Return that it is to see all training examples."""
        return sys.maxsize

    def initialise(self, backbone: Backbone, model: nn.Module, sample: TrainingSample) -> None:
        """Keep the first images of each class, in the order in which the seed draws them."""
        from zipeft.modules.feature_cache import FeatureCache

        (cache,) = (module for module in model.modules() if isinstance(module, FeatureCache))
        for batch in sample:
            wanted = cache.wanted(batch.targets)
            if wanted.any():
                cache.remember(sample.features(batch)[wanted], batch.targets[wanted])
        cache.take_shapes({"filled": (len(cache.names), max(1, int(cache.filled.sum(1).max())))})


@dataclass(frozen=True)
class TipAdapterF(TipAdapter):
    """Tip-Adapter-F: as Tip-Adapter, and the kept features of training images train (arXiv 2111.03930)."""

    trains: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **TipAdapter.space}
