"""Toys that train on any device and in any precision, by the trainer itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from support.method_cases import methods_for
from support.toys import TOYS
from zipeft import registry
from zipeft.api.learner import Learner, build_learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.protocol import TrainingProtocol
from zipeft.experiments.loading import Loader
from zipeft.training.dataset import EncodedSplit
from zipeft.training.initialisation import initialise
from zipeft.training.loop import Trainer
from zipeft.training.training_log import TrainingLog

CASES = [(toy, method) for toy, (backbone, _) in TOYS.items() for method in methods_for(backbone.modality)]
"""Every method on the toy of each kind of backbone that it goes with."""


@dataclass
class Fit:
    """A learner, on the CPU, with all that trains it."""

    learner: Learner
    method: Method
    objective: Objective
    train: EncodedSplit
    validation: EncodedSplit

    def on(self, accelerator: Accelerator, **protocol: Any) -> tuple[TrainingLog, dict[str, Tensor]]:
        """Train it on the accelerator's device; return how it went, and how far each parameter moved, on the CPU."""
        learner = self.learner.to(accelerator.device)
        start = {name: parameter.detach().clone() for name, parameter in learner.trainable().items()}
        settings = TrainingProtocol(**{"epochs": 1, "batch_size": 8, **protocol})
        initialise(learner, self.method, self.objective, self.train, 0, accelerator, settings.batch_size)
        log = Trainer(self.objective, settings, accelerator).fit(
            learner, self.method, self.train, self.validation, seed=0
        )
        return log, {name: (p.detach() - start[name]).cpu() for name, p in learner.trainable().items()}


def fit_of(toy: str, method: str, **settings: Any) -> Fit:
    """Return a method on a toy, at the same values each time, without dropout, whose masks each device draws itself."""
    made, task = (part() for part in TOYS[toy])
    encoded, classes, dataset = _data(toy)
    plugin = registry.methods.make(method, settings).plugin
    objective = plugin.objective(task.objective(dataset, classes))
    torch.manual_seed(0)
    learner = build_learner(plugin.adapt, made, copy.deepcopy(_frozen(toy)), objective, classes)
    return Fit(without_dropout(learner), plugin, objective, *encoded)


def without_dropout(learner: Learner) -> Learner:
    for module in learner.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return learner


@cache
def _frozen(toy: str) -> nn.Module:
    return TOYS[toy][0]().build().requires_grad_(False)


@cache
def _data(toy: str) -> tuple[tuple[EncodedSplit, EncodedSplit], list[str], str]:
    made, task = TOYS[toy][0](), TOYS[toy][1](examples=24)
    (dataset,) = task.datasets()
    loaded = Loader().dataset(task, dataset, made)
    return loaded.draw(0), loaded.data.classes, dataset
