"""TaskRes: a residual of each class's text features (arXiv 2211.10277)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class TaskRes(Method):
    """TaskRes: a learnt residual is added to each class's text features (arXiv 2211.10277).

    t' = t + scale * x, equation 4, with one x a class, zero at the start. Classes that are not trained on, as the novel
    ones of base-to-novel generalisation, have no x: their features are the frozen t.
    """

    learning_rate: float = 2e-3
    scale: float = 0.5
    """What x is multiplied by: the paper's alpha."""

    family: ClassVar[str] = "CLIP's features"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), "scale": Range(0.1, 1.0)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, "scale must be above 0")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if no classes are named."""
        from zipeft.api.backbone import ImageTextBackbone
        from zipeft.modules.task_residual import TaskResidual

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        if not (names := backbone.classes(model)):
            raise UserError("taskres learns a vector for each class, and none are named: call name_classes first")
        device = next(model.parameters()).device
        backbone.adapt_matching(model, TaskResidual(names, backbone.width(model), self.scale, device))
