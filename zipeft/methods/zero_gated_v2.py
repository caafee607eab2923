"""LLaMA-Adapter V2 (arXiv 2304.15010): early fusion of the image, and norms, scales and biases that train too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import HEAD_SPACE, require_size
from zipeft.api.search import Range, Space
from zipeft.api.settings import later_setting
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

    def join_layers(self, backbone: Backbone, model: nn.Module) -> None:
        first, *others = self.blocks(backbone, model)
        self.join(first, [first], self.visual_length)
        for block in topmost(others, self.layers):
            self.join(block, [block])


@dataclass(frozen=True)
class ZeroGatedV2(EarlyGated):
    """LLaMA-Adapter V2 (arXiv 2304.15010): early fusion; norms, scales and biases of linear layers train too.

    Where there is no image, its prompts are those of any gated layer. A language model's output embeddings are left
    out: they stand outside of its blocks.
    """

    learning_rate: float = 5e-3
    tune_norms_and_biases: bool = later_setting(True)
    modalities: ClassVar[tuple[str, ...]] = ("image", "text", "instruction")
    scales: ClassVar[str] = "zero_gated_v2"
    space: ClassVar[Space] = {"learning_rate": Range(1e-3, 3e-2), **HEAD_SPACE}
