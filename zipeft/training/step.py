"""One optimiser step on a batch, whose micro-batches go through the learner one after another."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from zipeft.api.objective import Objective
from zipeft.training.dataset import EncodedSplit
from zipeft.training.micro_batches import MicroBatch, MicroBatches


class TrainingStep:
    """Takes optimiser steps, and as many of the schedule: ``model`` and ``optimizer`` are as accelerate prepared them,
    ``clip`` is the norm to which gradients are clipped, and batches are of ``data``."""

    def __init__(
        self,
        objective: Objective,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Any,
        schedule: LRScheduler,
        clip: float,
        data: EncodedSplit,
        micro_batches: MicroBatches,
    ) -> None:
        self.objective, self.accelerator, self.clip = objective, accelerator, clip
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.data, self.micro_batches = data, micro_batches

    def take(self, batch: list[MicroBatch], weight: float) -> Tensor:
        """Take a step; return the mean loss of this process's shard of the batch, weighted as ``Shard.weight`` says."""
        self.model.train()
        loss = self.micro_batches.compute(self.data.batch, batch, partial(self._gradients, weight))
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        self.schedule.step()
        return loss

    def _gradients(self, weight: float, batch: list[MicroBatch]) -> Tensor:
        """Leave the gradients of a batch, and no others; return its weighted loss.

        A loss is a mean over windows, so that each part counts by its share of them. Processes tell each other their
        gradients with the last part.
        """
        self.optimizer.zero_grad()
        windows = sum(len(part.indices) for part in batch)
        losses = []
        for part in batch:
            content = send_to_device(part.content, self.accelerator.device, non_blocking=True)
            targets = content.pop("targets")
            with nullcontext() if part is batch[-1] else self.accelerator.no_sync(self.model):
                loss = self.objective.loss(self.model(**content), targets) * (weight * (len(part.indices) / windows))
                self.accelerator.backward(loss)
            losses.append(loss.detach())
            del loss  # with the graph, before that of the next part
        return sum(losses[1:], losses[0])
