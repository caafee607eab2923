"""Full fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zipeft.method import Method

if TYPE_CHECKING:
    from torch import nn

    from zipeft.backbone import Backbone


@dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: every parameter of the backbone trains."""

    learning_rate: float = 2e-5

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        model.float().requires_grad_(True)
