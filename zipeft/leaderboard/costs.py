"""What a row's runs cost: which quantities a table shows, how runs are taken together, and what the words mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from zipeft.formatting import DASH, count, duration, giga, rate, size, span
from zipeft.leaderboard.machines import Machine, described, machine, numbered, on
from zipeft.leaderboard.sections import grouped
from zipeft.results import Result


@dataclass(frozen=True)
class Quantity:
    """One cost of a run. ``combine`` makes one number of several runs; without it a table shows their range.

    ``remark`` is what has to be said of the number of these runs, or "". A cost ``of_machine`` is that of the machine
    too: on another one it is another.
    """

    name: str
    header: str
    value: Callable[[Result], float | None]
    show: Callable[[float], str]
    combine: Callable[[Iterable[float]], float] | None = None
    remark: Callable[[Sequence[Result]], str] = lambda results: ""
    of_machine: bool = False

    def comparable(self, results: Sequence[Result], reference: Machine | None) -> Sequence[Result]:
        """Return the runs whose cost may be compared with others': those on the ``reference``, if there is one and the
        cost is of the machine."""
        if reference is None or not self.of_machine:
            return results
        return on(reference, results)

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


def _cpu_seconds(result: Result) -> float:
    return result.cost.cpu_seconds or 0.0  # results of older versions did not measure it


def _busy_threads(result: Result) -> float:
    """Return how many threads a training kept busy on average, 1.9 of 2 say; 0 where that was not measured."""
    seconds = _training_seconds(result)
    return _cpu_seconds(result) / seconds if seconds else 0.0


def _alike(result: Result) -> tuple[Any, ...]:
    """Return what runs of a row share that keep as many threads busy, if nothing disturbs them."""
    return result.task.dataset, result.cost.threads, *machine(result)


def held_up(results: Iterable[Result]) -> list[Result]:
    """Return the runs of a row whose training took far longer than what they computed explains; see ``CPU_MEANING``."""
    found = []
    for runs in grouped((result for result in results if _busy_threads(result)), _alike).values():
        busiest = max(map(_busy_threads, runs))
        if runs[0].environment.device == "cpu":  # nobody else computes: the process itself is never idle
            busiest = max(1.0, busiest)
        for run in runs:
            seconds, explained = _training_seconds(run), _cpu_seconds(run) / busiest
            if seconds > FAR * explained and seconds - explained > LEAST_SECONDS:
                found.append(run)
    return found


def _held_up(results: Sequence[Result]) -> str:
    number = len(held_up(results))
    return f"(held up {number}/{len(results)})" if number else ""


FAR, LEAST_SECONDS = 1.5, 1.0
"""A run was held up that took so many times as long as explained, and so many seconds longer."""


def _step_seconds(result: Result) -> float | None:
    return result.cost.train_seconds / result.cost.steps if result.cost.steps else None


def _examples_per_second(result: Result) -> float | None:
    return None if result.cost.steps == 0 else result.cost.examples_per_second


PARAMETERS = Quantity("trainable_parameters", "trainable\nparameters", lambda r: r.cost.trainable_parameters, count)
TRAINING_TIME = Quantity(
    "training_seconds", "training\ntime", _training_seconds, duration, fmean, _held_up, of_machine=True
)
MEMORY = Quantity(
    "peak_memory_bytes", "peak\nmemory", lambda r: r.cost.peak_memory_bytes, size, median, of_machine=True
)
ALL = (
    PARAMETERS,
    Quantity("head_parameters", "head\nparameters", lambda r: r.cost.head_parameters, count),
    Quantity("adapter_bytes", "adapter\nfile", lambda r: r.cost.adapter_bytes, size),
    TRAINING_TIME,
    Quantity("cpu_seconds", "CPU\ntime", lambda r: r.cost.cpu_seconds, duration, fmean, of_machine=True),
    Quantity("step_seconds", "time per\nstep", _step_seconds, duration, fmean, of_machine=True),
    Quantity("examples_per_second", "examples\nper second", _examples_per_second, rate, fmean, of_machine=True),
    Quantity(
        "tokens_per_second", "tokens\nper second", lambda r: r.cost.tokens_per_second, rate, fmean, of_machine=True
    ),
    MEMORY,
    Quantity(
        "evaluation_seconds", "evaluation\ntime", lambda r: r.cost.evaluation_seconds, duration, fmean, of_machine=True
    ),
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


CPU_MEANING = (
    "CPU time is what all threads of the process worked while it trained; over training time, it is how many threads "
    "were busy. Other jobs on the machine leave it as it is, and lengthen the training time: (held up 1/6) says that "
    "one of six runs took more than one and a half times as long, and a second longer, than its CPU time takes with as "
    "many threads busy as in the busiest run of this row on the same data set and machine, on a CPU at least one. Do "
    "not compare these training times. Runs that were all held up alike are not found, but where less than one thread "
    "was busy."
)


def meaning(results: Sequence[Result]) -> list[str]:
    """Return what the costs of a table mean, a few sentences each."""
    measured = any(result.cost.cpu_seconds is not None for result in results)
    return [MEANING, *([CPU_MEANING] if measured else []), memory_meaning(results), *hardware_note(results)]


def memory_meaning(results: Iterable[Result]) -> str:
    """Return what the peak memory is, after the ways in which it was measured."""
    kinds = " or ".join(sorted({result.cost.peak_memory_kind for result in results}))
    return (
        f"Peak memory ({kinds}) is the highest while training, all of the process or device counted, of which the "
        "median over runs is shown: what a process holds besides differs from run to run."
    )


def hardware_note(results: Sequence[Result]) -> list[str]:
    """Return which machines times and memory come from, where they come from several."""
    machines = numbered(results)
    if len(machines) == 1:
        return []
    named = "; ".join(f"machine {number} is {described(each)}" for each, number in machines.items())
    return [
        f"Times and memory were measured on {len(machines)} kinds of hardware, with a line for each ({named}): do not "
        "compare them. Beside the scores, and in the plots, stand those of machine 1."
    ]
