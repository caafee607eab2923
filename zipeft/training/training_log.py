"""What a training leaves: how it went, epoch by epoch, and the parameters of its best epoch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.results import Epoch
from zipeft.training.sharding import local
from zipeft.training.stopwatch import NOTHING, Spent


@dataclass
class TrainingLog:
    """How a training went, epoch by epoch, and the time that went into it.

    ``validation`` holds the scores of the selected epoch. Where nothing trains there is no epoch, and 0 is selected.
    """

    validation: dict[str, float] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    selected_epoch: int = 0
    steps: int = 0
    examples: int = 0
    training: Spent = NOTHING
    evaluation: Spent = NOTHING
    earlier_peak_bytes: int = 0
    """The peak memory before its first step: of earlier processes, from whose checkpoints it went on, and of what a
    method made of training data."""
    execution: dict[str, Any] = field(default_factory=dict)
    """What is to be said of how it was carried out, beside ``Execution``."""

    def add(
        self, loss: float, losses: list[float], scores: dict[str, float], training: Spent, evaluation: Spent
    ) -> None:
        """Record an epoch, its mean loss and those of its parts. Raises ``UserError`` if that is not finite."""
        epoch = len(self.history) + 1
        if not math.isfinite(loss):
            raise UserError(f"the training loss is {loss} in epoch {epoch}; lower the learning rate")
        self.history.append(Epoch(epoch, loss, scores, tuple(losses)))
        self.training += training
        self.evaluation += evaluation

    def as_state(self) -> dict[str, Any]:
        """Return it as a checkpoint has it."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> TrainingLog:
        """Return what ``as_state`` made a state of."""
        history = [Epoch(**epoch) for epoch in state["history"]]
        spent = {name: Spent(**state[name]) for name in ("training", "evaluation")}
        return cls(**{**state, **spent, "history": history})


class Best:
    """What the learner was after the epoch with the best validation score, the later of ties, as far as this process
    holds it; in the host's memory."""

    def __init__(self, metric: str) -> None:
        self.metric, self.epoch, self.score = metric, 0, -math.inf
        self.parameters: dict[str, Tensor] = {}
        self.chosen: dict[str, float] = {}

    def keep(self, epoch: int, scores: dict[str, float], learner: Learner) -> None:
        if scores[self.metric] >= self.score:
            self.epoch, self.score, self.chosen = epoch, scores[self.metric], learner.chosen
            for name, parameter in learner.trainable().items():
                held = local(parameter)
                kept = self.parameters.setdefault(name, torch.empty_like(held, device="cpu"))
                kept.copy_(held)  # into what is there: the last best and this one may be too much

    @torch.no_grad()
    def restore(self, learner: Learner) -> None:
        learner.chosen = self.chosen
        for name, parameter in learner.trainable().items():
            local(parameter).copy_(self.parameters[name])

    def as_state(self) -> dict[str, Any]:
        """Return it as a checkpoint has it."""
        return dict(vars(self))

    def take(self, state: dict[str, Any]) -> None:
        """Become what ``as_state`` made a state of."""
        vars(self).update(state)
