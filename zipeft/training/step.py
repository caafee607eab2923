"""One optimiser step on a batch, whose micro-batches go through the learner one after another."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from accelerate.utils import send_to_device
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from zipeft.api.objective import Objective
from zipeft.api.training_callback import TrainingCallback
from zipeft.training.dataset import EncodedSplit
from zipeft.training.micro_batches import MicroBatch, MicroBatches
from zipeft.training.parallel import Replicas
from zipeft.training.sharding import Shards


class TrainingStep:
    """Takes optimiser steps, and as many of the schedule: ``learner`` is what processes train together, ``clip`` the
    norm to which gradients are clipped, and batches are of ``data``. ``callback`` goes along with them."""

    def __init__(
        self,
        objective: Objective,
        learner: Replicas | Shards,
        schedule: LRScheduler,
        clip: float,
        data: EncodedSplit,
        micro_batches: MicroBatches,
        callback: TrainingCallback | None = None,
    ) -> None:
        self.objective, self.clip = objective, clip
        self.learner, self.schedule = learner, schedule
        self.data, self.micro_batches = data, micro_batches
        self.callback = callback or TrainingCallback()

    def take(self, batch: list[MicroBatch], weight: float) -> Tensor:
        """Take a step; return the mean loss of this process's shard of the batch, weighted as ``Shard.weight`` says."""
        self.learner.model.train()
        loss = self.micro_batches.compute(self.data.batch, batch, partial(self._gradients, weight))
        self.learner.clip(self.clip)
        self.learner.optimizer.step()
        self.schedule.step()
        if not self.learner.accelerator.optimizer_step_was_skipped:
            self.callback.step_taken(self.schedule.last_epoch)
        return loss

    def _gradients(self, weight: float, batch: list[MicroBatch]) -> Tensor:
        """Leave the gradients of a batch, and no others; return its weighted loss.

        A loss is a mean over windows, so that each part counts by its share of them. Processes tell each other their
        gradients with the last part, which has the callback's penalty too: the same on each, whatever its weight.
        """
        learner, accelerator = self.learner, self.learner.accelerator
        learner.zero_grad()
        windows = sum(len(part.indices) for part in batch)
        losses = []
        for part in batch:
            content = send_to_device(part.content, accelerator.device, non_blocking=True)
            targets = content.pop("targets")
            with nullcontext() if part is batch[-1] else learner.adding_up():
                loss = self.objective.loss(learner.model(**content), targets) * (weight * (len(part.indices) / windows))
                penalty = self.callback.penalty() if part is batch[-1] else None
                accelerator.backward(loss if penalty is None else loss + penalty)
            losses.append(loss.detach())
            del loss, penalty  # with the graph, before that of the next part
        return sum(losses[1:], losses[0])
