"""The optimiser and the schedule of learning rates that a protocol names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol


def new_optimizer(
    learner: Learner,
    method: Method,
    protocol: TrainingProtocol,
    parameters: Mapping[str, nn.Parameter] | None = None,
) -> torch.optim.Optimizer:
    """Return the protocol's optimiser of all that trains: the method says the learning rate of the head, and of each
    other parameter, and matrices have weight decay, not vectors. ``parameters`` stand, by name, for the learner's own:
    a process may hold a part of each."""
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    head = learner.head_parameters()
    for name, parameter in (parameters or learner.trainable()).items():
        rate = method.head_learning_rate if name in head else method.learning_rate_of(name)
        groups.setdefault((name in head, rate, parameter.dim() > 1), []).append(parameter)
    described = [
        {
            "params": parameters,
            "lr": rate,
            "weight_decay": method.weight_decay if matrix else 0.0,
        }
        for (_, rate, matrix), parameters in groups.items()
    ]
    if protocol.optimizer == "SGD":
        return torch.optim.SGD(described, momentum=protocol.momentum, fused=True)
    return torch.optim.AdamW(described, fused=True)


def learning_rate_factor(protocol: TrainingProtocol, steps: int, batches: int) -> Callable[[int], float]:
    """Return the function from a step, counted from 0, to the part of its peak that the learning rate has there.

    It rises in a line over the warm-up of a training of so many ``steps``, of which ``batches`` make an epoch; then it
    follows the protocol's schedule.
    """
    warmup = protocol.warmup_epochs * batches if protocol.warmup_epochs else steps * protocol.warmup
    rise = max(1, round(warmup))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = (step - rise) / max(1, steps - rise)
        return {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[protocol.schedule]

    return factor
