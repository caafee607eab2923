"""The training loop, of one process or several. It knows no backbone, task or method by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.results import Epoch
from zipeft.training import parallel
from zipeft.training.batches import WHOLE, shuffled_batches
from zipeft.training.dataset import EncodedSplit
from zipeft.training.evaluation import Evaluator
from zipeft.training.micro_batches import MicroBatches
from zipeft.training.optimizers import learning_rate_factor, new_optimizer
from zipeft.training.step import TrainingStep
from zipeft.training.stopwatch import NOTHING, Spent, now

LOSSES = 10
"""Parts of an epoch whose mean losses are kept: a training of one epoch has a curve too."""


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


class Trainer:
    """Trains learners for one objective under one protocol.

    With several processes, each calls every method with the same arguments; each trains its learner alike and gets the
    same outcome, which is that of one process up to rounding. Two things are a process's own: dropout draws other
    masks, and what a layer computes over a batch (batch normalisation, in training) it computes over its shard.
    """

    def __init__(
        self,
        objective: Objective,
        protocol: TrainingProtocol,
        accelerator: Accelerator,
        micro_batches: MicroBatches = WHOLE,
    ) -> None:
        self.objective, self.protocol, self.accelerator = objective, protocol, accelerator
        self.micro_batches = micro_batches
        self.evaluator = Evaluator(objective, accelerator, protocol.batch_size, micro_batches)
        self.shard = parallel.Shard.of_process(accelerator)

    def fit(
        self,
        learner: Learner,
        method: Method,
        train: EncodedSplit,
        validation: EncodedSplit,
        seed: int,
        on_step: Callable[[int], None] = lambda steps: None,
    ) -> TrainingLog:
        """Train a learner in place and leave it as it was after its best epoch on validation data.

        ``on_step`` is called after each optimiser step with the number of all, on every process.

        Raises: ``UserError`` if the loss is not finite, on every process.
        """
        if not learner.trainable():
            return self._as_it_is(learner, validation)
        loader = shuffled_batches(train, self.protocol.batch_size, seed, self.shard, self.micro_batches)
        sampler = loader.sampler
        assert isinstance(sampler, parallel.ShardedBatches)  # as ``shuffled_batches`` makes it
        steps = total_steps(len(loader), self.protocol)
        model, optimizer = parallel.prepare(self.accelerator, learner, new_optimizer(learner, method, self.protocol))
        parallel.draw_apart(self.accelerator, seed)
        schedule = LambdaLR(optimizer.optimizer, learning_rate_factor(self.protocol, steps, len(loader)))
        step = TrainingStep(
            self.objective,
            self.accelerator,
            model,
            optimizer,
            schedule,
            self.protocol.clip,
            train,
            self.micro_batches,
        )
        log, best = TrainingLog(), Best(self.objective.metric)
        while log.steps < steps:
            start = now()
            sampler.epoch = len(log.history)
            step.data = train.in_epoch(sampler.epoch)
            losses = []
            batches = zip(parallel.read(self.accelerator, loader), sampler.weights(), strict=True)
            for batch, weight in islice(batches, steps - log.steps):
                losses.append(step.take(batch, weight))
                on_step(steps)
            loss, of_parts = self._means(torch.stack(losses))
            trained = now()
            scores = self.evaluator.validate(learner, validation)
            log.add(loss, of_parts, scores, trained - start, now() - trained)
            log.steps += len(losses)
            log.examples += min(len(losses) * self.protocol.batch_size, len(train))
            best.keep(len(log.history), scores, learner)
        best.restore(learner)
        log.selected_epoch = best.epoch
        log.validation = log.history[best.epoch - 1].validation
        if self.micro_batches.automatic:
            log.execution["micro_batch"] = self.micro_batches.size or self.protocol.batch_size
        return log

    def _as_it_is(self, learner: Learner, validation: EncodedSplit) -> TrainingLog:
        """Return what there is to say of a learner in which nothing trains."""
        start = now()
        scores = self.evaluator.validate(learner, validation)
        return TrainingLog(scores, evaluation=now() - start)

    def _means(self, losses: Tensor) -> tuple[float, list[float]]:
        """Return the mean of an epoch's losses, and the means of its tenths, over all processes."""
        tenths = losses.tensor_split(min(LOSSES, len(losses)))
        means = torch.stack([part.mean() for part in (losses, *tenths)])
        mean, *of_tenths = self.accelerator.reduce(means, "mean").tolist()
        return mean, of_tenths


class Best:
    """What the learner was after the epoch with the best validation score, the later of ties; in the host's memory."""

    def __init__(self, metric: str) -> None:
        self.metric, self.epoch, self.score = metric, 0, -math.inf
        self.parameters: dict[str, Tensor] = {}
        self.chosen: dict[str, float] = {}

    def keep(self, epoch: int, scores: dict[str, float], learner: Learner) -> None:
        if scores[self.metric] >= self.score:
            self.epoch, self.score, self.chosen = epoch, scores[self.metric], learner.chosen
            for name, parameter in learner.trainable().items():
                kept = self.parameters.setdefault(name, torch.empty_like(parameter, device="cpu"))
                kept.copy_(parameter.detach())  # into what is there: the last best and this one may be too much

    @torch.no_grad()
    def restore(self, learner: Learner) -> None:
        learner.chosen = self.chosen
        for name, parameter in learner.trainable().items():
            parameter.copy_(self.parameters[name])


def total_steps(batches: int, protocol: TrainingProtocol) -> int:
    """Return how many optimiser steps a training on so many batches takes."""
    steps = protocol.epochs * batches
    return min(steps, protocol.max_steps or steps)
