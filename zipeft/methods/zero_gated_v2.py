"""LLaMA-Adapter V2 (arXiv 2304.15010): early fusion of the image, and norms, scales and biases that train too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.method import HEAD_SPACE, require_float32, require_size
from zipeft.api.search import Range, Space
from zipeft.errors import UserError
from zipeft.methods.zero_gated import ZeroGated, topmost

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class EarlyGated(ZeroGated):
    """zero_gated with early fusion: the image enters at the first layer alone (LLaMA-Adapter V2, arXiv 2304.15010).

    The first layer has prompts of their own, which the image conditions; those of the ``layers`` topmost others are
    the same for every image.
    """

    visual_length: int = 20
    """Prompt tokens of the first layer, where the image enters."""

    modalities: ClassVar[tuple[str, ...]] = ("image-instruction",)
    image_entry: ClassVar[str] = "early"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("visual_length", self.visual_length)

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        first, *others = self.blocks(backbone, model)
        self.join(first, [first], self.visual_length)
        for block in topmost(others, self.layers):
            self.join(block, [block])

    def blocks(self, backbone: Backbone, model: nn.Module) -> Sequence[nn.Module]:
        """Return the blocks of the one tower that is joined."""
        (tower,) = backbone.towers(model).values()
        return tower


@dataclass(frozen=True)
class ZeroGatedV2(EarlyGated):
    """LLaMA-Adapter V2 (arXiv 2304.15010): early fusion; norms, scales and biases of linear layers train too.

    Where there is no image, its prompts are those of any gated layer. A language model's output embeddings are left
    out: they stand outside of its blocks.
    """

    learning_rate: float = 5e-3
    modalities: ClassVar[tuple[str, ...]] = ("image", "text", "instruction")
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the model's blocks have no plain linear layer, and for quantised weights."""
        from zipeft.modules.scaled_linear import scale_linears

        if backbone.is_quantised:
            raise UserError(f"zero_gated_v2 does not scale {backbone.dtype} layers: take dtype=bf16, or zero_gated")

        if not scale_linears(self.blocks(backbone, model)):
            raise UserError(f"zero_gated_v2 scales linear layers, and {type(model).__name__} has none; take zero_gated")
        super().apply(backbone, model)  # prompts pass the scaled projections
        for norm in (module for module in model.modules() if "norm" in type(module).__name__.lower()):
            require_float32(norm.parameters(recurse=False))
            norm.register_forward_hook(_as_taken)


def _as_taken(_norm: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    """Return what a norm made in the dtype that it took: its weights are float32 in any model."""
    return output.to(args[0].dtype)
