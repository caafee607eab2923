"""CoCoOp: the learnt context of class names is conditioned on the image (arXiv 2203.05557)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method, require_size
from zipeft.api.search import Range, Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class CoCoOp(Method):
    """CoCoOp: learnt words before the classes' names, to which each image adds a vector of its own (arXiv 2203.05557).

    v_m(x) = v_m + h(x), as section 3.2 has it, with h a small network on the image's normalised features. Every image
    has texts of its own, so that a step encodes batch * classes texts: the paper trains with a batch of one.
    """

    learning_rate: float = 2e-3
    length: int = 4
    initial: str = "a photo of a"
    """Words whose embeddings the learnt ones start from, as many as ``length``; with none they start at random."""
    reduction: int = 16
    """By which the network's hidden layer is narrower than the features."""

    family: ClassVar[str] = "prompts"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)
        require_size("reduction", self.reduction)

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the classes' names leave no room for so many words, or ``initial`` are not as
        many."""
        from zipeft.api.backbone import ImageTextBackbone
        from zipeft.modules.meta_net import MetaNet

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        device = next(model.parameters()).device
        network = partial(MetaNet, reduction=self.reduction, device=device)
        backbone.learn_context(model, self.length, self.initial, condition=network)
