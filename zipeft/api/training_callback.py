"""What a method does beside the steps of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class TrainingCallback:
    """Goes along with one training of a model, and by default does nothing; ``Method.callback`` makes it.

    With several processes each has its own, and all have the same parameters and gradients: what it decides by them
    alone is the same on all. It is made before the first step, also where a training goes on from a checkpoint, whose
    state it is then given.
    """

    def penalty(self) -> Tensor | None:
        """Return a term that each step's loss gets, once however a batch is divided; None for none.

        It is a function of parameters. The losses that a training records are without it.
        """
        return None

    def step_taken(self, step: int) -> None:
        """Change parameters in place after step number ``step``, from 1, if it is to.

        They are what the optimiser made of them, and their gradients, of the whole batch and clipped, are still there.
        A step that fp16 had to skip is none.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what decides how it goes on: tensors, numbers, text, and lists and dicts of such."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, in another process. Tensors in it are in the host's memory."""
