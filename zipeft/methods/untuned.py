"""The model as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.method import Method
from zipeft.api.search import Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.api.backbone import Backbone


@dataclass(frozen=True)
class Untuned(Method):
    """The model as it is: nothing trains, where a task needs no head of its own (zero-shot CLIP, say)."""

    family: ClassVar[str] = "baselines"
    modalities: ClassVar[tuple[str, ...]] = ("instruction", "image-text")
    image_entry: ClassVar[str] = "none"
    starts_at_frozen_model: ClassVar[bool] = True
    space: ClassVar[Space] = {}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Leave the model as it is, frozen."""
