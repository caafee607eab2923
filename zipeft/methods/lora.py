"""LoRA (arXiv 2106.09685), by the peft library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_float32, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone

MOST_ALPHA = 1_000_000
"""No update is multiplied by more than this, even of rank 1."""


@dataclass(frozen=True)
class LoRA(Method):
    """LoRA by the peft library: low-rank updates of attention projections (arXiv 2106.09685)."""

    learning_rate: float = 1e-3
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    """Names of the linear layers to adapt; empty takes those that the backbone names."""

    family: ClassVar[str] = "low-rank"
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("rank", self.rank)
        require(1 <= self.alpha <= MOST_ALPHA, f"alpha must be from 1 to {MOST_ALPHA:,}")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if no layer of the model has a target's name."""
        from peft import LoraConfig, inject_adapter_in_model

        from zipeft.modules.projected_attention import project_attention

        targets = project_attention(model, self.targets or backbone.lora_targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
        )
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"lora: {reason}: name others with --set lora.targets=q_proj,v_proj") from error
        require_float32(parameter for parameter in model.parameters() if parameter.requires_grad)
