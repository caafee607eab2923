"""BitFit (arXiv 2106.10199)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zipeft.method import Method

if TYPE_CHECKING:
    from torch import nn

    from zipeft.backbone import Backbone


@dataclass(frozen=True)
class BitFit(Method):
    """BitFit: the backbone's bias terms train (arXiv 2106.10199)."""

    learning_rate: float = 1e-3

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
