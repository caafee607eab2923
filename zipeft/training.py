"""The training loop. It knows no backbone, task or method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from zipeft.errors import UserError
from zipeft.examples import Encoded
from zipeft.learner import Learner
from zipeft.method import Method
from zipeft.protocol import Protocol
from zipeft.task import Task


@dataclass
class Fit:
    """What came of a training: one entry of ``history`` an epoch, and the seconds that went into it."""

    history: list[dict[str, Any]] = field(default_factory=list)
    selected_epoch: int = 0
    steps: int = 0
    examples: int = 0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0

    def add(self, loss: float, scores: dict[str, float], seconds: float, evaluation_seconds: float) -> None:
        """Record an epoch. Raises ``UserError`` if its mean loss is not finite."""
        epoch = len(self.history) + 1
        if not math.isfinite(loss):
            raise UserError(f"the training loss is {loss} in epoch {epoch}; lower the learning rate")
        self.history.append({"epoch": epoch, "train_loss": loss, "validation": scores})
        self.train_seconds += seconds
        self.evaluation_seconds += evaluation_seconds


class Trainer:
    """Trains and evaluates learners on one task under one protocol."""

    def __init__(self, task: Task, protocol: Protocol, accelerator: Accelerator) -> None:
        self.task, self.protocol, self.accelerator = task, protocol, accelerator

    def fit(
        self,
        learner: Learner,
        method: Method,
        train: Encoded,
        validation: Encoded,
        seed: int,
        on_step: Callable[[int], None] = lambda steps: None,
    ) -> Fit:
        """Train a learner in place and leave it as it was after its best epoch on validation data.

        ``on_step`` is called after each optimiser step with the number of all.

        Raises: ``UserError`` if the loss is not finite.
        """
        loader = self.accelerator.prepare(train.loader(self.protocol.batch_size, seed))
        steps = total_steps(len(loader), self.protocol)
        model, optimizer = self.accelerator.prepare(learner, _optimizer(learner, method))
        schedule = LambdaLR(optimizer.optimizer, _warm_cosine(steps, self.protocol.warmup))
        result, best = Fit(), Best(self.task.metric)
        while result.steps < steps:
            start = time.perf_counter()
            batches = islice(loader, steps - result.steps)
            losses = [self._step(model, batch, optimizer, schedule, lambda: on_step(steps)) for batch in batches]
            loss = torch.stack(losses).mean().item()
            evaluated = time.perf_counter()
            scores, _, _ = self.evaluate(model, validation)
            result.add(loss, scores, evaluated - start, time.perf_counter() - evaluated)
            result.steps += len(losses)
            result.examples += min(len(losses) * self.protocol.batch_size, len(train))
            best.keep(len(result.history), scores, learner)
        best.restore(learner)
        result.selected_epoch = best.epoch
        return result

    @torch.no_grad()
    def evaluate(self, model: nn.Module, data: Encoded) -> tuple[dict[str, float], list[Any], list[Any]]:
        """Return the scores of a split, and its predictions and targets in the order of its examples."""
        model.eval()
        predictions, targets = [], []
        for batch in self.accelerator.prepare(data.loader(self.protocol.batch_size)):
            target = batch.pop("targets")
            predicted = self.task.predict(model(**batch))
            predicted, target = self.accelerator.gather_for_metrics((predicted, target))
            predictions += predicted.tolist()
            targets += target.tolist()
        return self.task.score(predictions, targets), predictions, targets

    def _step(
        self, model: nn.Module, batch: dict[str, Any], optimizer: Any, schedule: LambdaLR, on_step: Callable[[], None]
    ) -> Tensor:
        model.train()
        targets = batch.pop("targets")
        loss = self.task.loss(model(**batch), targets)
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(model.parameters(), self.protocol.clip)
        optimizer.step()
        schedule.step()
        on_step()
        return loss.detach()


class Best:
    """What the learner's parameters were after the epoch with the best validation score, the later of ties."""

    def __init__(self, metric: str) -> None:
        self.metric, self.epoch, self.score = metric, 0, -math.inf
        self.parameters: dict[str, Tensor] = {}

    def keep(self, epoch: int, scores: dict[str, float], learner: Learner) -> None:
        if scores[self.metric] >= self.score:
            self.epoch, self.score = epoch, scores[self.metric]
            self.parameters = {name: parameter.detach().clone() for name, parameter in learner.trainable().items()}

    @torch.no_grad()
    def restore(self, learner: Learner) -> None:
        for name, parameter in learner.trainable().items():
            parameter.copy_(self.parameters[name])


def total_steps(batches: int, protocol: Protocol) -> int:
    """Return how many optimiser steps a training on so many batches takes."""
    steps = protocol.epochs * batches
    return min(steps, protocol.max_steps or steps)


def _optimizer(learner: Learner, method: Method) -> torch.optim.Optimizer:
    """AdamW with a learning rate for the head and one for the rest; weight decay for matrices, not for vectors."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.trainable().items():
        groups.setdefault((name.startswith("head."), parameter.dim() > 1), []).append(parameter)
    return torch.optim.AdamW(
        {
            "params": parameters,
            "lr": method.head_learning_rate if head else method.learning_rate,
            "weight_decay": method.weight_decay if matrix else 0.0,
        }
        for (head, matrix), parameters in groups.items()
    )


def _warm_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """A linear rise over the first part ``warmup`` of the steps, then half a cosine down to zero."""
    rise = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor
