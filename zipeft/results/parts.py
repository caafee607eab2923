"""What records consist of: the backbone, the task and the method that decided a run; its epochs, trials and cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BackboneRecord:
    """The frozen model. ``parameters`` counts all of it, without head and method."""

    name: str
    checkpoint: str
    source: str
    checksum: str
    parameters: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Examples in each split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class TaskRecord:
    """One data set of a task. ``metric`` names the score that selects and ranks, a fraction (1.0 is perfect)."""

    name: str
    dataset: str
    metric: str
    source: str
    checksum: str
    note: str
    classes: int
    sizes: Sizes
    settings: dict[str, Any]


@dataclass(frozen=True)
class MethodRecord:
    """A method, its settings, and the search space of those that were searched: empty where none were."""

    name: str
    settings: dict[str, Any]
    space: dict[str, Any]

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that no search chose."""
        return {name: value for name, value in self.settings.items() if name not in self.space}


@dataclass(frozen=True)
class Epoch:
    """Mean training loss of one epoch, and validation scores after it.

    ``losses`` are those of its tenths, in their order, or of its steps where they are fewer; files of older versions
    have none.
    """

    epoch: int
    train_loss: float
    validation: dict[str, float]
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Cost:
    """What a training cost, each part measured where it is paid. None stands for what an older zipeft did not measure.

    ``trainable_parameters`` leaves out the head; ``adapter_bytes`` is the saved file with the head. ``train_seconds``
    is spent in ``steps`` optimiser steps; it holds neither ``evaluation_seconds`` nor the ``frozen_prefix_seconds``
    that went into activations of the frozen blocks below ``adapted_from_block``, and into what a method made of
    training data before its first step. ``cpu_seconds`` is the time that the
    CPUs worked for the process in those two, all of its threads together; ``threads`` is how many torch computes with.
    FLOPs are those of one example: a training step above the frozen prefix, and a whole forward pass.
    ``tokens_per_second`` is that of training, without padding; None where examples have no length of their own, as
    images have not.
    """

    trainable_parameters: int
    head_parameters: int
    adapter_bytes: int
    adapted_from_block: int
    frozen_prefix_seconds: float
    train_seconds: float
    cpu_seconds: float | None
    threads: int | None
    steps: int | None
    evaluation_seconds: float
    examples_per_second: float
    peak_memory_bytes: int
    peak_memory_kind: str
    tokens_per_second: float | None
    training_flops: int | None
    inference_flops: int | None


@dataclass(frozen=True)
class Trivial:
    """What an answer scores on the test split that nothing had to be learnt for: ``answer`` says which, in words.

    It was chosen on the training targets.
    """

    answer: str
    test: dict[str, float]


@dataclass(frozen=True)
class Tried:
    """One trial as the run that it led to remembers it: ``settings`` are those drawn, ``validation`` is the metric.

    A trial that failed has ``validation`` None and says why in ``error``.
    """

    id: str
    settings: dict[str, Any]
    validation: float | None
    train_seconds: float
    error: str

    def problems(self, where: str, space: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong with a trial of a search of ``space``."""
        if unknown := self.settings.keys() - space.keys():
            yield f"{where}.settings has {', '.join(map(repr, sorted(unknown)))}, which method.space lacks"
        if (self.validation is None) != bool(self.error):
            yield f"{where} must have either a validation score or an error"
