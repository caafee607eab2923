"""Normalisation tuning as a method. Heavy libraries are imported inside functions: listing stays instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft import HEAD_SPACE, Backbone, Method, Range, Space, UserError, require_float32

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NormTuning(Method):
    """Normalisation tuning: the normalisation layers train (an example of a third-party plug-in).

    As in "Tuning LayerNorm in Attention" (arXiv 2312.11420), on every layer whose class is named a norm. The fields are
    settings: ``--set norm_tuning.learning_rate=0.003``.
    """

    learning_rate: float = 1e-3

    starts_at_frozen_model: ClassVar[bool] = True
    """No step, no change: a test compares the outputs."""

    space: ClassVar[Space] = {"learning_rate": Range(3e-4, 1e-2), **HEAD_SPACE}
    """What a search tries."""

    def apply(self, backbone: Backbone, model: nn.Module) -> None:
        """Let the parameters train. Raises ``UserError`` if the model has no normalisation layer."""
        norms = [module for module in model.modules() if "norm" in type(module).__name__.lower()]
        parameters = [parameter for norm in norms for parameter in norm.parameters(recurse=False)]
        if not parameters:
            raise UserError(f"norm_tuning: {type(model).__name__} has no normalisation layer that could train")
        require_float32(parameters)
