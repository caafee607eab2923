"""The training loop, of one process or several. It knows no backbone, task or method by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.training_callback import TrainingCallback
from zipeft.errors import UserError
from zipeft.training import parallel
from zipeft.training.activation_checkpointing import checkpointed_activations
from zipeft.training.batches import shuffled_batches
from zipeft.training.checkpoints import Checkpoints
from zipeft.training.dataset import EncodedSplit
from zipeft.training.evaluation import Evaluator
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.micro_batches import MicroBatch
from zipeft.training.optimizers import learning_rate_factor, new_optimizer
from zipeft.training.sharding import Shards, is_sharded
from zipeft.training.state import TrainingState
from zipeft.training.step import TrainingStep
from zipeft.training.stopwatch import now
from zipeft.training.training_log import Best, TrainingLog

LOSSES = 10
"""Parts of an epoch whose mean losses are kept: a training of one epoch has a curve too."""

Loader = DataLoader[list[MicroBatch]]


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
        execution: Execution = BY_DEFAULT,
    ) -> None:
        self.objective, self.protocol, self.accelerator = objective, protocol, accelerator
        self.execution, self.micro_batches = execution, execution.micro_batches()
        self.evaluator = Evaluator(objective, accelerator, protocol.batch_size, self.micro_batches)
        self.shard = parallel.Shard.of_process(accelerator)

    def fit(
        self,
        learner: Learner,
        method: Method,
        train: EncodedSplit,
        validation: EncodedSplit,
        seed: int,
        on_step: Callable[[int], None] = lambda steps: None,
        checkpoints: Checkpoints | None = None,
    ) -> TrainingLog:
        """Train a learner in place and leave it as it was after its best epoch on validation data.

        ``on_step`` is called after each optimiser step with the number of all, on every process. With ``checkpoints``
        it goes on from the last one, and leaves more of them.

        Raises: ``UserError`` if the loss is not finite, on every process.
        """
        if not learner.trainable():
            return self._as_it_is(learner, validation)
        loader = shuffled_batches(train, self.protocol.batch_size, seed, self.shard, self.micro_batches)
        with checkpointed_activations(learner) if self.execution.checkpoint_activations else nullcontext():
            state, step = self._prepare(learner, method, train, loader, seed)
            steps = total_steps(len(loader), self.protocol)
            if checkpoints and (saved := checkpoints.read()):
                state.restore(saved)
                for _ in range(state.steps):
                    on_step(steps)
            while state.log.steps < steps:
                self._epoch(state, step, loader, steps, on_step, checkpoints)
                self._validate(state, validation, train)
                if checkpoints and checkpoints.due(epoch_ended=True, step=0):
                    checkpoints.write(state.saved())
        return self._finish(state)

    def _prepare(
        self, learner: Learner, method: Method, train: EncodedSplit, loader: Loader, seed: int
    ) -> tuple[TrainingState, TrainingStep]:
        """Return a training before its first step, and what takes its steps."""
        protocol, accelerator = self.protocol, self.accelerator
        kind = Shards if is_sharded(learner) else parallel.Replicas
        together = kind(accelerator, learner, partial(new_optimizer, learner, method, protocol))
        parallel.draw_apart(accelerator, seed)
        optimizer = together.optimizer.optimizer
        steps = total_steps(len(loader), protocol)
        schedule = LambdaLR(optimizer, learning_rate_factor(protocol, steps, len(loader)))
        callback = _callback(learner, method, steps)
        step = TrainingStep(self.objective, together, schedule, protocol.clip, train, self.micro_batches, callback)
        best = Best(self.objective.metric)
        order = _sampler(loader).generator
        state = TrainingState(
            learner, optimizer, schedule, accelerator.scaler, order, self.micro_batches, best, callback
        )
        return state, step

    def _epoch(
        self,
        state: TrainingState,
        step: TrainingStep,
        loader: Loader,
        steps: int,
        on_step: Callable[[int], None],
        checkpoints: Checkpoints | None,
    ) -> None:
        """Take the steps of an epoch that have not been taken, of ``steps`` in all."""
        sampler = _sampler(loader)
        state.begin()
        sampler.skip, sampler.epoch = len(state.losses), len(state.log.history)
        step.data = step.data.in_epoch(sampler.epoch)
        batches = zip(parallel.read(self.accelerator, loader), sampler.weights(), strict=True)
        for batch, weight in islice(batches, steps - state.steps):
            state.losses.append(step.take(batch, weight))
            on_step(steps)
            unfinished = len(state.losses) < len(loader)
            if checkpoints and unfinished and checkpoints.due(epoch_ended=False, step=state.steps):
                checkpoints.write(state.saved())
        sampler.skip = 0

    def _validate(self, state: TrainingState, validation: EncodedSplit, train: EncodedSplit) -> None:
        """End an epoch: score what it has led to, and keep it if that is the best."""
        log, taken = state.log, len(state.losses)
        loss, of_parts = self._means(torch.stack(state.losses))
        start = now()
        scores = self.evaluator.validate(state.learner, validation)
        log.add(loss, of_parts, scores, state.spent(start), now() - start)
        log.steps += taken
        log.examples += min(taken * self.protocol.batch_size, len(train))
        state.best.keep(len(log.history), scores, state.learner)
        state.end()

    def _finish(self, state: TrainingState) -> TrainingLog:
        """Leave the learner as it was after its best epoch; return how the training went."""
        log, best = state.log, state.best
        best.restore(state.learner)
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


def _sampler(loader: Loader) -> parallel.ShardedBatches:
    sampler = loader.sampler
    assert isinstance(sampler, parallel.ShardedBatches)  # as ``shuffled_batches`` makes it
    return sampler


def _callback(learner: Learner, method: Method, steps: int) -> TrainingCallback:
    """Return what goes along with a training. Raises ``UserError`` if there is something, and parameters are in
    parts."""
    callback = method.callback(learner.model, steps)
    if is_sharded(learner) and type(callback) is not TrainingCallback:
        raise UserError(f"{type(method).__name__} looks at whole parameters after each step: leave --sharding out")
    return callback


def total_steps(batches: int, protocol: TrainingProtocol) -> int:
    """Return how many optimiser steps a training on so many batches takes."""
    steps = protocol.epochs * batches
    return min(steps, protocol.max_steps or steps)
