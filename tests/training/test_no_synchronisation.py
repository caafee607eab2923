"""A training step never makes the host wait for a GPU: shown on a CPU, over all methods and kinds of backbones."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator

from support.fitting import CASES, fit_of
from support.method_cases import covered
from support.synchronisation import Waits, no_waiting
from zipeft.training.step import TrainingStep


@pytest.mark.parametrize(("toy", "method"), covered(CASES))
def test_a_training_step_reads_no_value(toy, method, monkeypatch):
    steps, own = [], TrainingStep.take

    def step(*args, **kwargs):
        with no_waiting():
            steps.append(own(*args, **kwargs))
        return steps[-1]

    monkeypatch.setattr(TrainingStep, "take", step)
    log, moved = fit_of(toy, method).on(Accelerator(cpu=True), max_steps=2)
    assert len(steps) == (2 if moved else 0) == log.steps


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.item(),
        lambda x: bool(x.sum()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x.tolist(),
        lambda x: torch.equal(x, x),
        lambda x: x.index_put((x > 0,), x.sum()),
    ],
)
def test_reading_values_is_noticed(read):
    with pytest.raises(Waits), no_waiting():
        read(torch.ones(1))
