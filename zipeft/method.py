"""What a method plug-in provides: a change to a frozen model that says which parameters train.

Plug-ins are named in the entry-point group ``zipeft.methods``. This module imports no torch, and a plug-in
should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zipeft.errors import require

if TYPE_CHECKING:
    from torch import nn

    from zipeft.backbone import Backbone


@dataclass(frozen=True)
class Method(abc.ABC):
    """A way of fine-tuning. An instance's fields are its settings; the head trains beside it in any case.

    The first line of a subclass's docstring is its description in ``zipeft ls``.
    """

    learning_rate: float = 1e-3
    """Peak learning rate of the method's own parameters."""

    head_learning_rate: float = 1e-2
    """Peak learning rate of the head."""

    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.head_learning_rate > 0, "head_learning_rate must be above 0")
        require(self.weight_decay >= 0, "weight_decay must be 0 or more")

    @abc.abstractmethod
    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Change ``model`` in place. It arrives with every parameter frozen; what is to train has
        ``requires_grad`` set when this returns. Trainable parameters are float32 whatever the model's dtype."""
