"""Full fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method
from zipeft.api.search import Range, Space
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class Full(Method):
    """Full fine-tuning: every parameter of the backbone trains."""

    learning_rate: float = 2e-5
    family: ClassVar[str] = "baselines"
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(1e-5, 3e-4), **HEAD_SPACE}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` for quantised weights."""
        if backbone.is_quantised:
            raise UserError(f"full trains every weight, and {backbone.dtype} weights cannot train: take dtype=bf16")
        model.float().requires_grad_(True)
