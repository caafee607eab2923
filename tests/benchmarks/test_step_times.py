"""What a training step takes with every method on the embedded architectures, as a ratio to the frozen floor.

    pytest -m slow tests/benchmarks/test_step_times.py -k "vit and lora"

The floor is the frozen model, forward and all the way back, in which nothing trains: the hidden states that enter each
tower's first block take the gradient. A step is a forward and a backward pass, the optimiser's step, and what the
method does beside them; all of the model is computed, also what a training would keep of frozen layers. Step and floor
take turns, and the ratio is that of the fastest of each, so that the machine's drift cancels. OMP_NUM_THREADS sets the
threads. Nothing is asserted of time. ``time_steps.py`` beside this file runs all and keeps what docs/costs.md shows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import nn

from support.method_cases import asked_for, methods_for
from zipeft import registry
from zipeft.api.backbone import Backbone
from zipeft.api.learner import Learner, build_learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.methods.untuned import Untuned
from zipeft.objectives.default import default_objective
from zipeft.training.frozen_model import FrozenModel
from zipeft.training.optimizers import new_optimizer

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("ZIPEFT_ROUNDS", "3"))
CLASSES = [f"class {number}" for number in range(10)]
BATCHES: dict[str, dict[str, Any]] = {
    "vit": {"batch_size": 1, "image_size": 112},
    "roberta": {"batch_size": 4, "length": 32},
    "llama": {"batch_size": 1, "length": 32},
    "clip": {"batch_size": 8},
}
"""Of each backbone: a batch that is small enough for a processor (docs/costs.md names them)."""

CASES = [
    (backbone, method)
    for backbone in BATCHES
    for modality in [registry.backbones.get(backbone).modality]
    for method in (*methods_for(modality), *asked_for(modality))
    if method != "untuned"
]


@lru_cache(maxsize=1)
def frozen(name: str) -> tuple[Backbone, FrozenModel]:
    """A backbone at random weights, and its model. Cases of one backbone follow each other."""
    backbone = registry.backbones.get(name)(pretrained=False)
    return backbone, FrozenModel(backbone.load())


def learner_of(name: str, method: Method) -> tuple[Learner, Any]:
    backbone, model = frozen(name)
    torch.manual_seed(0)
    objective = method.objective(default_objective(backbone))
    learner = build_learner(method.adapt, backbone, model.copy(), objective, CLASSES)
    model.part(learner)
    return learner.train(), backbone.random_batch(**BATCHES[name])


def new_step(name: str, method: Method) -> Callable[[], None]:
    try:
        learner, batch = learner_of(name, method)
    except UserError as error:
        pytest.skip(str(error))
    if not learner.trainable():
        pytest.skip("it trains nothing")
    optimizer = new_optimizer(learner, method, TrainingProtocol())
    callback, taken = method.callback(learner.model, ROUNDS + 2), []

    def step() -> None:
        optimizer.zero_grad()
        loss = learner(batch).square().mean()
        penalty = callback.penalty()
        (loss if penalty is None else loss + penalty).backward()
        optimizer.step()
        taken.append(None)
        callback.step_taken(len(taken))

    return step


def new_floor(name: str) -> Callable[[], None]:
    learner, batch = learner_of(name, Untuned())
    learner.requires_grad_(False)
    for blocks in learner.backbone.towers(learner.model).values():
        blocks[0].register_forward_pre_hook(_take_gradient)

    def floor() -> None:
        learner(batch).square().mean().backward()

    return floor


def _take_gradient(_block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].detach().requires_grad_(), *args[1:])


@pytest.mark.parametrize(("backbone", "method"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_time_of_a_step_as_a_ratio_to_the_frozen_floor(benchmark, backbone, method):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    floor, step, floors = new_floor(backbone), new_step(backbone, registry.methods.get(method)()), []
    floor()

    def time_the_floor() -> None:
        start = time.perf_counter()
        floor()
        floors.append(time.perf_counter() - start)

    benchmark.group = backbone
    benchmark.pedantic(step, setup=time_the_floor, rounds=ROUNDS, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / min(floors)
    benchmark.extra_info.update(backbone=backbone, method=method, ratio=ratio, floor=min(floors))
    benchmark.extra_info.update(threads=torch.get_num_threads(), rounds=ROUNDS)
    assert ratio > 0
