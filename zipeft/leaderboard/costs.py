"""What a row's runs cost: which quantities a table shows, how runs are taken together, and what the words mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from zipeft.leaderboard.numbers import DASH, count, duration, giga, rate, size, span
from zipeft.results import Result


@dataclass(frozen=True)
class Quantity:
    """One cost of a run. ``combine`` makes one number of several runs; without it a table shows their range."""

    name: str
    header: str
    value: Callable[[Result], float | None]
    show: Callable[[float], str]
    combine: Callable[[Iterable[float]], float] | None = None

    def number(self, results: Iterable[Result]) -> float | None:
        """Return the runs' cost in plain units (a count, bytes, seconds); None if no run measured it."""
        values = self._known(results)
        return (self.combine or fmean)(values) if values else None

    def text(self, results: Iterable[Result]) -> str:
        """Return the runs' cost for people, a dash if no run measured it."""
        values = self._known(results)
        if not values:
            return DASH
        return self.show(self.combine(values)) if self.combine else span(values, self.show)

    def _known(self, results: Iterable[Result]) -> list[float]:
        return [value for result in results if (value := self.value(result)) is not None]


def _training_seconds(result: Result) -> float:
    return result.cost.train_seconds + result.cost.frozen_prefix_seconds


def _step_seconds(result: Result) -> float | None:
    return result.cost.train_seconds / result.cost.steps if result.cost.steps else None


def _examples_per_second(result: Result) -> float | None:
    return None if result.cost.steps == 0 else result.cost.examples_per_second


PARAMETERS = Quantity("trainable_parameters", "trainable\nparameters", lambda r: r.cost.trainable_parameters, count)
TRAINING_TIME = Quantity("training_seconds", "training\ntime", _training_seconds, duration, fmean)
MEMORY = Quantity("peak_memory_bytes", "peak\nmemory", lambda r: r.cost.peak_memory_bytes, size, median)
ALL = (
    PARAMETERS,
    Quantity("head_parameters", "head\nparameters", lambda r: r.cost.head_parameters, count),
    Quantity("adapter_bytes", "adapter\nfile", lambda r: r.cost.adapter_bytes, size),
    TRAINING_TIME,
    Quantity("step_seconds", "time per\nstep", _step_seconds, duration, fmean),
    Quantity("examples_per_second", "examples\nper second", _examples_per_second, rate, fmean),
    Quantity("tokens_per_second", "tokens\nper second", lambda r: r.cost.tokens_per_second, rate, fmean),
    MEMORY,
    Quantity("evaluation_seconds", "evaluation\ntime", lambda r: r.cost.evaluation_seconds, duration, fmean),
    Quantity("training_flops", "training\nGFLOPs", lambda r: r.cost.training_flops, giga),
    Quantity("inference_flops", "inference\nGFLOPs", lambda r: r.cost.inference_flops, giga),
)
MAIN = (PARAMETERS, TRAINING_TIME, MEMORY)
"""Those beside the scores; a table of their own has all of them."""

MEANING = (
    "Parameters, adapter file and GFLOPs are those of one run, a range where data sets differ; trainable parameters "
    "leave out the head, and the file holds it too. Times, examples and tokens per second are means over runs. "
    "Training time is spent in optimiser steps and on activations of frozen blocks that are computed once, without "
    "evaluation; time per step is that of an optimiser step alone. Evaluation time is all of a run's validation and "
    "testing. GFLOPs are those of one example: training from the first block that is adapted, inference through the "
    "whole model."
)


def memory_meaning(results: Iterable[Result]) -> str:
    """Return what the peak memory is, after the ways in which it was measured."""
    kinds = " or ".join(sorted({result.cost.peak_memory_kind for result in results}))
    return (
        f"Peak memory ({kinds}) is the highest while training, all of the process or device counted, of which the "
        "median over runs is shown: what a process holds besides differs from run to run."
    )


def hardware_note(results: Sequence[Result]) -> list[str]:
    """Return a warning where costs come from different machines."""
    machines = {(r.environment.device, r.environment.cpu, r.environment.cores) for r in results}
    note = f"Times and memory were measured on {len(machines)} kinds of hardware, listed below; do not compare them."
    return [note] if len(machines) > 1 else []
