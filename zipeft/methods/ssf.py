"""SSF: features are scaled and shifted (arXiv 2210.08823)."""

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
class SSF(Method):
    """SSF: what each layer returns is scaled and shifted (arXiv 2210.08823)."""

    learning_rate: float = 5e-3

    family: ClassVar[str] = "scaling"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the model has no layer that could be scaled."""
        from zipeft.modules.scale_shift import insert

        if not insert(model):
            raise UserError(f"ssf scales what layers return, and {type(model).__name__} has none that it knows")
