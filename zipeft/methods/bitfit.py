"""BitFit (arXiv 2106.10199)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_float32
from zipeft.api.search import Range, Space
from zipeft.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class BitFit(Method):
    """BitFit: the backbone's bias terms train (arXiv 2106.10199)."""

    learning_rate: float = 1e-3
    family: ClassVar[str] = "selective"
    modalities: ClassVar[tuple[str, ...]] = ("image", "text", "image-text")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the model has no bias, and for quantised weights."""
        if backbone.is_quantised:
            raise UserError(f"bitfit does not go with {backbone.dtype} layers, whose biases stay: take dtype=bf16")
        biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
        if not biases:
            raise UserError(f"bitfit trains biases, and {type(model).__name__} has none; take another method")
        require_float32(biases)
