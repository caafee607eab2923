"""Full fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method
from zipeft.api.search import Range, Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: every parameter of the backbone trains."""

    learning_rate: float = 2e-5
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(1e-5, 3e-4), **HEAD_SPACE}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        model.float().requires_grad_(True)
