"""LLaMA-Adapter's zero-initialised gated prompts (arXiv 2303.16199), and their ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zipeft.api.method import HEAD_SPACE, Method, require_size
from zipeft.api.search import Range, Space
from zipeft.api.settings import setting
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class ZeroGated(Method):
    """Zero-initialised gated prompts in the attention of the top layers (LLaMA-Adapter, arXiv 2303.16199)."""

    learning_rate: float = 1e-1
    length: int = 10
    layers: int | None = None
    """How many of the topmost layers; None for all."""
    gate: Literal["head", "layer"] = "head"
    gate_activation: Literal["tanh", "none"] = setting("tanh", recorded_as="squash")
    gate_init: Literal["zero", "random"] = "zero"
    prompt_std: float = 1.0

    family: ClassVar[str] = "gated prompts"
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {"learning_rate": Range(1e-2, 3e-1), **HEAD_SPACE}

    image_entry: ClassVar[str] = "condition"
    towers: ClassVar[tuple[str, ...]] = ()
    """Which of a backbone's towers are joined; empty for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)
        require(self.layers is None or self.layers >= 1, "layers must be 1 or more, or none for all")
        require(self.prompt_std > 0, "prompt_std must be above 0")

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        towers = backbone.towers(model)
        self.join(model, [block for name in self.towers or towers for block in topmost(towers[name], self.layers)])

    def join(self, part: nn.Module, blocks: Sequence[nn.Module], length: int | None = None) -> None:
        """Join prompts of ``length`` tokens, the method's own for None, to blocks of a part of a model."""
        from zipeft.splices import attach

        attach(
            part,
            blocks=blocks,
            length=self.length if length is None else length,
            gate=self.gate,
            gate_activation=self.gate_activation,
            gate_init=self.gate_init,
            prompt_std=self.prompt_std,
        )


@dataclass(frozen=True)
class RandomGated(ZeroGated):
    """Ablation of zero_gated: the gates start at random values, N(0, 1), and not at zero."""

    gate_init: Literal["zero", "random"] = "random"
    starts_at_frozen_model: ClassVar[bool] = False


@dataclass(frozen=True)
class ImageGated(ZeroGated):
    """Zero-initialised gated prompts in the image tower alone."""

    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    towers: ClassVar[tuple[str, ...]] = ("image",)


@dataclass(frozen=True)
class TextGated(ZeroGated):
    """Zero-initialised gated prompts in the text tower alone."""

    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    towers: ClassVar[tuple[str, ...]] = ("text",)


def topmost(blocks: Sequence[nn.Module], layers: int | None) -> Sequence[nn.Module]:
    """Return the last ``layers`` of a tower's blocks, all for None. Raises ``UserError`` if it has fewer."""
    if layers is not None and layers > len(blocks):
        raise UserError(f"layers is {layers}; this model has 1 to {len(blocks)} to join")
    return blocks[-layers:] if layers else blocks
