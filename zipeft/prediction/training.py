"""Memory and hours of a whole training on some devices, from the cost of one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.prediction.devices import SHARE, Device
from zipeft.prediction.step import StepCost, step_cost


@dataclass(frozen=True)
class Devices:
    """What a training runs on: so many devices, over which the model is ``sharded`` or whole on each.

    ``share`` is the part of their peak that they are taken to reach.
    """

    device: Device
    count: int = 1
    sharded: bool = False
    share: float = SHARE


@dataclass(frozen=True)
class Prediction:
    """What a training takes on some devices.

    Args:
        build: returns the learner, on the meta device.
        batch: returns a batch of so many examples.
        protocol: its batch size is that of all devices together.
        micro_batch: how many examples go through each device at once; None for all of its part of a batch.
    """

    build: Callable[[], Learner]
    batch: Callable[[int], Any]
    method: Method
    protocol: TrainingProtocol
    devices: Devices
    micro_batch: int | None = None

    @cached_property
    def plain(self) -> StepCost:
        """The cost of a step on one device."""
        return self._cost(checkpointing=False)

    @cached_property
    def checkpointed(self) -> StepCost:
        """The same where the blocks above the frozen trunk are computed again in the backward pass."""
        return self._cost(checkpointing=True)

    def _cost(self, checkpointing: bool) -> StepCost:
        own = replace(self.protocol, batch_size=-(-self.protocol.batch_size // self.devices.count))
        return step_cost(
            self.build, self.batch, self.method, own, micro_batch=self.micro_batch, checkpointing=checkpointing
        )

    def peak(self, cost: StepCost) -> int:
        """Return the bytes that one device needs at the peak.

        Sharded, a device holds its part of the model, of gradients and of the optimiser's state, and beside it, as a
        whole and with gradients, what lies outside of the blocks, and two of these: the one that is computed and the
        one that is fetched.
        """
        if not self.devices.sharded:
            return cost.peak
        return cost.peak - cost.held + -(-cost.held // self.devices.count) + 2 * cost.largest_block + cost.outside

    def fits(self, cost: StepCost) -> bool:
        return self.peak(cost) <= self.devices.device.memory

    def seconds(self, cost: StepCost) -> float:
        """Return the time of a step: its arithmetic at the share of the peak, and nothing else."""
        return cost.flops / (self.devices.device.peak(self.protocol.precision) * self.devices.share)

    def hours(self, cost: StepCost, examples: int) -> float:
        """Return the time of all epochs over so many training examples, without validation and tests."""
        steps = self.protocol.epochs * -(-examples // self.protocol.batch_size)
        return self.seconds(cost) * min(steps, self.protocol.max_steps or steps) / 3600
