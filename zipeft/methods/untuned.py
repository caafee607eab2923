"""The model as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft.method import Method
from zipeft.search import Space

if TYPE_CHECKING:
    from torch import nn

    from zipeft.backbone import Backbone


@dataclass(frozen=True)
class Untuned(Method):
    """The backbone as it is: nothing trains, for backbones that do a task without a head of its own."""

    modalities: ClassVar[tuple[str, ...]] = ("instruction",)
    space: ClassVar[Space] = {}

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Leave the model as it is, frozen."""
