"""MaPLe: coupled prompts in both towers (arXiv 2210.03117)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method, require_size
from zipeft.api.search import Range, Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class MaPLe(Method):
    """MaPLe: prompts in the first blocks of both towers, images' projected from texts' (arXiv 2210.03117).

    The text tower's input and its first ``depth`` blocks have learnt words P_i; the image tower's have F_i(P_i), by a
    linear layer F_i each (section 3.2). Tokens of images enter in front of the first block, behind its normalisation
    of the input; in the authors' code they enter in front of that.
    """

    learning_rate: float = 1e-3
    length: int = 2
    depth: int = 9
    """How many blocks of each tower have prompts of their own; all of a tower that has fewer."""
    initial: str = "a photo"
    """Words whose embeddings those of the first block start from, as many as ``length``; with none they start at
    random, as deeper ones do."""
    behind: str = "of a"
    """Words that stay as they are between the learnt ones and a class's name."""

    family: ClassVar[str] = "prompts"
    by_default: ClassVar[bool] = False
    modalities: ClassVar[tuple[str, ...]] = ("image-text",)
    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_size("length", self.length)
        require_size("depth", self.depth)

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Raises ``UserError`` if the classes' names leave no room for so many words, or ``initial`` are not as
        many."""
        from zipeft.api.backbone import ImageTextBackbone
        from zipeft.modules.coupled_prompts import CoupledPrompts

        assert isinstance(backbone, ImageTextBackbone)  # the only ones of its modality
        towers = backbone.towers(model)
        depth = min(self.depth, *map(len, towers.values()))
        context = backbone.learn_context(model, self.length, self.initial, self.behind)
        prompts = CoupledPrompts(context, depth, backbone.hidden_width(model), backbone.leading_tokens(model))
        prompts.join(towers["image"], towers["text"])
        model.add_module("coupled_prompts", prompts)
