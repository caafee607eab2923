"""LoRA (arXiv 2106.09685), by the peft library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, Method, require_float32, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError, require
from zipeft.modules.peft_attention import keep_frozen_weights

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

    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("rank", self.rank)
        require(1 <= self.alpha <= MOST_ALPHA, f"alpha must be from 1 to {MOST_ALPHA:,}")
        require(0 <= self.dropout < 1, "dropout must be at least 0 and below 1")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if no layer of the model has a target's name, and for attention of PyTorch itself whose
        weights are not fp32."""
        from peft import LoraConfig, inject_adapter_in_model

        if backbone.dtype != "fp32":
            self._check_attention(model, self.targets or backbone.lora_targets, backbone.dtype)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.targets or backbone.lora_targets),
        )
        try:
            inject_adapter_in_model(config, model)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"lora: {reason}: name others with --set lora.targets=q_proj,v_proj") from error
        keep_frozen_weights(model)
        require_float32(parameter for parameter in model.parameters() if parameter.requires_grad)

    def _check_attention(self, model: nn.Module, targets: Sequence[str], dtype: str) -> None:
        """peft adds updates to the weights of such a layer for every forward, and takes them off again behind it."""
        from torch import nn

        for name, module in model.named_modules():
            if isinstance(module, nn.MultiheadAttention) and name.rpartition(".")[2] in targets:
                raise UserError(
                    f"lora adds to the weights of {name}, and {dtype} ones would lose what is added: take dtype=fp32, "
                    "or other layers, such as --set lora.targets=c_fc,c_proj"
                )
