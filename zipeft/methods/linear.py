"""The linear probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method
from zipeft.api.search import Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.objective import Objective


@dataclass(frozen=True)
class Linear(Method):
    """Linear probe: only the head trains, on the frozen backbone's features."""

    family: ClassVar[str] = "baselines"
    modalities: ClassVar[tuple[str, ...]] = ("image", "text", "image-text")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = HEAD_SPACE

    def objective(self, objective: Objective) -> Objective:
        return objective.probed()

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Leave the model as it is, frozen."""
