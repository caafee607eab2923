"""The state of a training between two steps: all that decides how it goes on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LRScheduler

from zipeft.api.learner import Learner
from zipeft.api.training_callback import TrainingCallback
from zipeft.modules.held_tensors import held
from zipeft.training.checkpoints import Saved, set_random_states
from zipeft.training.micro_batches import MicroBatches
from zipeft.training.sharding import is_sharded, local
from zipeft.training.stopwatch import NOTHING, Spent, now
from zipeft.training.training_log import Best, TrainingLog


class TrainingState:
    """What trains, what trains it, and how far it has come: ``losses`` are those of the steps of a begun epoch.

    ``order`` is the generator from which the batches of an epoch are drawn.
    """

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        scaler: Any,
        order: torch.Generator,
        micro_batches: MicroBatches,
        best: Best,
        callback: TrainingCallback,
    ) -> None:
        self.learner, self.optimizer, self.schedule, self.scaler = learner, optimizer, schedule, scaler
        self.order, self.micro_batches, self.best, self.callback = order, micro_batches, best, callback
        self.log = TrainingLog()
        self.losses: list[Tensor] = []
        self._order_at_start = order.get_state()
        self._started = now()
        self._spent_before = NOTHING

    @property
    def steps(self) -> int:
        """How many optimiser steps have been taken."""
        return self.log.steps + len(self.losses)

    def begin(self) -> None:
        """Begin an epoch, or go on with the one whose losses there are."""
        if not self.losses:
            self._order_at_start = self.order.get_state()
        self._started = now()

    def spent(self, until: Spent) -> Spent:
        """Return the time that went into the steps of this epoch, in earlier processes too."""
        return self._spent_before + (until - self._started)

    def end(self) -> None:
        """End an epoch, which is in the log."""
        self.losses, self._spent_before = [], NOTHING

    def saved(self) -> Saved:
        """Return the state as a checkpoint holds it."""
        losses = torch.stack(self.losses).cpu() if self.losses else torch.empty(0)
        order = self._order_at_start if self.losses else self.order.get_state()
        spent = self.spent(now()) if self.losses else NOTHING
        learnt = {
            "parameters": {name: local(parameter) for name, parameter in self.learner.trainable().items()},
            "optimizer": self.optimizer.state_dict(),
            "best": self.best.as_state(),
        }
        shared = {
            "statistics": _statistics(self.learner),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "micro_batch": self.micro_batches.size,
            "order": order,
            "spent": (spent.wall, spent.cpu),
            "log": self.log.as_state(),
            "callback": self.callback.state_dict(),
        }
        if is_sharded(self.learner):
            return Saved(shared, {"losses": losses}, learnt)
        return Saved({**shared, **learnt}, {"losses": losses})

    @torch.no_grad()
    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a state that ``saved`` returned, in another process."""
        for name, parameter in self.learner.trainable().items():
            local(parameter).copy_(saved["parameters"][name])
        for name, buffer in _statistics(self.learner).items():
            buffer.copy_(saved["statistics"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        if self.scaler:
            self.scaler.load_state_dict(saved["scaler"])
        self.micro_batches.size = saved["micro_batch"]
        self.log = TrainingLog.from_state(saved["log"])
        self.log.execution["resumed"] = self.log.execution.get("resumed", 0) + 1
        self.log.earlier_peak_bytes = max(self.log.earlier_peak_bytes, saved["peak"])
        self.best.take(saved["best"])
        self.callback.load_state_dict(saved["callback"])
        device = next(iter(self.learner.trainable().values())).device
        self.losses = list(saved["losses"].to(device))
        self._order_at_start, self._spent_before = saved["order"], Spent(*saved["spent"])
        self.order.set_state(self._order_at_start)
        set_random_states(saved["random"])


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return what decides results beside the parameters that train, by name: running statistics, which training
    changes, and what a method holds of training data."""
    running = {
        f"{name}.{each}": buffer
        for name, norm in module.named_modules()
        if isinstance(norm, _NormBase)
        for each, buffer in norm.named_buffers(recurse=False)
    }
    return running | held(module)
