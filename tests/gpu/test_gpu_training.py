"""Training on a GPU goes as on the CPU, by every method, on every kind of backbone, in every precision."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache

import pytest
import torch

from support.fitting import CASES, Fit, fit_of
from support.synchronisation import no_waiting
from zipeft.doctor.self_test import PROTOCOL, TOLERANCES, Trained, accelerated
from zipeft.training.step import TrainingStep

pytestmark = pytest.mark.gpu

LEARNING = [case for case in CASES if case[1] != "untuned"]
PLAIN = asdict(PROTOCOL)


def trained(fit: Fit, accelerator) -> Trained:
    log, moved = fit.on(accelerator, **PLAIN)
    head = fit.learner.head_parameters()
    parts = [[moved[name].flatten() for name in moved if (name in head) == own] for own in (False, True)]
    return Trained(list(log.history[0].losses), [torch.cat(p) if p else torch.empty(0) for p in parts])


def with_large_steps(toy: str, method: str) -> Fit:
    return fit_of(toy, method, learning_rate=0.1, head_learning_rate=0.1)


@cache
def on_the_cpu(toy: str, method: str) -> Trained:
    with accelerated(torch.device("cpu"), "fp32") as accelerator:
        return trained(with_large_steps(toy, method), accelerator)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("toy", "method"), LEARNING)
def test_losses_and_parameters_are_the_cpus(toy, method, precision, device, report):
    if device.type == "cpu" and precision == "fp16":
        pytest.skip("accelerate takes no fp16 on a CPU")
    expected = on_the_cpu(toy, method)
    with accelerated(device, precision) as accelerator:
        apart = trained(with_large_steps(toy, method), accelerator).distance(expected)
    report.add("Farthest from the CPU", backbone=toy, method=method, precision=precision, apart=f"{apart:.2%}")
    assert apart < TOLERANCES[precision]


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("toy", "method"), LEARNING)
def test_no_step_makes_the_host_wait(toy, method, precision, device, monkeypatch):
    if device.type == "cpu" and precision == "fp16":
        pytest.skip("accelerate takes no fp16 on a CPU")
    steps, own = [], TrainingStep.take

    def take(*args):
        if device.type == "cpu":
            with no_waiting():
                steps.append(own(*args))
            return steps[-1]
        torch.cuda.set_sync_debug_mode("error" if steps else "default")  # the first one sets things up
        try:
            steps.append(own(*args))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return steps[-1]

    monkeypatch.setattr(TrainingStep, "take", take)
    with accelerated(device, precision) as accelerator:
        fit_of(toy, method).on(accelerator, max_steps=3)
    assert len(steps) == 3
