"""Experiments on toys, and runs of them, in a line."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from support.toys import ToyTask, ToyViT
from zipeft import registry
from zipeft.api.backbone import Backbone
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import Space
from zipeft.api.task import Task
from zipeft.experiments.comparison import Comparison, Contender, Run
from zipeft.experiments.experiment import Experiment
from zipeft.registry import Named


def comparison(
    backbone: Backbone | None = None,
    task: Task | None = None,
    contenders: tuple[Contender, ...] = (),
    seeds: tuple[int, ...] = (),
    names: tuple[str, str] = ("toy", "toy"),
    **protocol: Any,
) -> Comparison:
    """Return a comparison on a backbone and a task, the toys on images if none are given."""
    parts = (Named(name, part) for name, part in zip(names, (backbone or ToyViT(), task or ToyTask()), strict=True))
    return Comparison(*parts, contenders, TrainingProtocol(**protocol), seeds)


def experiment(
    backbone: Backbone | None = None, task: Task | None = None, accelerator: Accelerator | None = None, **settings: Any
) -> Experiment:
    """Return an experiment on the CPU; ``settings`` are those of ``comparison``."""
    return Experiment(comparison(backbone, task, **settings), accelerator or Accelerator(cpu=True), "pytest")


def run(
    dataset: str,
    method: str | Method,
    seed: int = 0,
    name: str = "method",
    space: Space | None = None,
    trial: int | None = None,
    **settings: Any,
) -> Run:
    """Return a run of a method that is given by its name and ``settings``, or as an instance."""
    if isinstance(method, str):
        name, method = method, registry.methods.make(method, settings).plugin
    return Run(dataset, Contender(name, method, space or {}), seed, trial)
