"""Some training examples, which a method may see before the first step: see ``Method.initialise``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from zipeft.api.learner import Learner
    from zipeft.api.objective import Objective


class Batch(NamedTuple):
    """Some windows on the learner's device: what its backbone takes, and what the objective's loss takes."""

    inputs: Any
    targets: Any


class TrainingSample:
    """A few of a run's own training examples, never of validation or test, as its backbone takes them.

    To iterate over it reads them, in the same order each time. They are not augmented. A batch holds windows of one
    length, so that no position of it is padding.
    """

    def __init__(
        self,
        learner: Learner,
        objective: Objective,
        batches: Callable[[], Iterable[Batch]],
        autocast: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._learner, self._objective = learner, objective
        self._batches, self._autocast = batches, autocast

    def __iter__(self) -> Iterator[Batch]:
        yield from self._batches()

    def features(self, batch: Batch) -> Tensor:
        """Return the backbone's features (batch, width) of a batch, in the precision of the run, without gradients."""
        import torch

        with torch.no_grad(), self._autocast():
            return self._learner.backbone.features(self._learner.model, batch.inputs)

    def outputs(self, batch: Batch) -> Tensor:
        """Return what the head gives for a batch, in the precision of the run; the head has not been trained."""
        with self._autocast():
            return self._learner(batch.inputs)

    def loss(self, batch: Batch) -> Tensor:
        """Return the run's training loss on a batch: a mean over its windows."""
        return self._objective.loss(self.outputs(batch), batch.targets)
