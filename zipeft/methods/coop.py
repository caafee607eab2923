"""CoOp: the context of class names is learnt (arXiv 2109.01134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method, require_size
from zipeft.api.search import Range, Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class CoOp(Method):
    """CoOp: learnt words stand before the classes' names, the same for all classes (arXiv 2109.01134)."""

    # The paper takes 2e-3 with SGD; AdamW's steps do not shrink with the gradient, and embeddings are of that size.
    learning_rate: float = 2e-3
    length: int = 4
    initial: str = ""
    """Words whose embeddings the learnt ones start from, as many as ``length``; else they start at random."""

    family: ClassVar[str] = "prompts"
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the classes' names leave no room for so many words."""
        from zipeft.api.backbone import ImageTextBackbone

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        backbone.learn_context(model, self.length, self.initial)
