"""FacT: increments of all weights as one tensor in factors (arXiv 2212.03145), in its two forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class FactTT(Method):
    """FacT-TT: all weights' increments share two factors, each slice has a core (tensor train, arXiv 2212.03145)."""

    learning_rate: float = 1e-3
    rank: int = 16
    scale: float = 1.0

    family: ClassVar[str] = "low-rank"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image", "image-text")
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), "scale": Range(0.1, 10.0), **HEAD_SPACE}

    form: ClassVar[str] = "TensorTrain"
    """The class of ``zipeft.modules.factor_tuning``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("rank", self.rank)
        require(self.scale > 0, "scale must be above 0")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if a weight cannot be cut into squares as wide as the hidden states."""
        from zipeft.modules import factor_tuning

        form: type[factor_tuning.FactorTuning] = getattr(factor_tuning, self.form)
        try:
            factor_tuning.insert(
                model,
                backbone.blocks(model),
                form,
                width=backbone.hidden_width(model),
                rank=self.rank,
                scale=self.scale,
            )
        except UserError as error:
            raise UserError(f"fact: {error}") from error


@dataclass(frozen=True)
class FactTK(FactTT):
    """FacT-TK: all weights' increments share two factors, and cores to mix (Tucker's form, arXiv 2212.03145)."""

    form: ClassVar[str] = "Tucker"
