"""Optimisers and schedules of learning rates, and what of them decides a run's identity."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from support.toys import ToyViT
from zipeft import registry
from zipeft.api.learner import Learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.training.optimizers import learning_rate_factor, new_optimizer

SCHEDULES = ("cosine", "linear", "constant")


def rates(steps: int = 100, batches: int = 20, **protocol) -> list[float]:
    factor = learning_rate_factor(TrainingProtocol(**protocol), steps, batches)
    return [factor(step) for step in range(steps + 1)]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [{}, {"warmup": 0.9, "warmup_epochs": 0.5}])
def test_the_learning_rate_rises_in_a_line_over_the_warm_up(schedule, warmup):
    found = rates(schedule=schedule, **warmup)
    assert found[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert max(found) == found[10] == 1


@pytest.mark.parametrize(("schedule", "middle", "end"), [("cosine", 0.5, 0), ("linear", 0.5, 0), ("constant", 1, 1)])
def test_after_the_warm_up_it_follows_the_schedule(schedule, middle, end):
    found = rates(schedule=schedule)
    assert found[55] == pytest.approx(middle)
    assert found[100] == pytest.approx(end)
    assert found[9:] == sorted(found[9:], reverse=True)


def test_a_line_falls_by_the_same_in_every_step_and_a_cosine_does_not():
    falls = {
        schedule: [before - after for before, after in pairwise(rates(schedule=schedule)[10:])]
        for schedule in ("linear", "cosine")
    }
    assert falls["linear"] == pytest.approx([1 / 90] * 90)
    assert max(falls["cosine"]) > 1.5 / 90


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_matrices_decay_and_vectors_do_not_and_the_head_has_its_own_rate(optimizer):
    torch.manual_seed(0)
    backbone = ToyViT()
    learner = Learner(backbone, backbone.build().requires_grad_(False), torch.nn.Linear(32, 3))
    method = registry.methods.get("zero_gated")(learning_rate=0.5, head_learning_rate=0.25, weight_decay=0.125)
    method.apply(learner.backbone, learner.model)
    made = new_optimizer(learner, method, TrainingProtocol(optimizer=optimizer, momentum=0.75))
    assert type(made).__name__ == optimizer
    groups = {id(parameter): group for group in made.param_groups for parameter in group["params"]}
    assert len(groups) == len(learner.trainable())
    for name, parameter in learner.trainable().items():
        group = groups[id(parameter)]
        assert group["lr"] == (0.25 if name.startswith("head.") else 0.5)
        assert group["weight_decay"] == (0.125 if parameter.dim() > 1 else 0.0)
        assert group.get("momentum", 0.75) == 0.75


def test_what_was_there_before_a_choice_of_optimisers_is_recorded_as_it_was():
    recorded = TrainingProtocol().of_run()
    assert {name: recorded[name] for name in ("optimizer", "schedule", "warmup")} == {
        "optimizer": "AdamW",
        "schedule": "cosine",
        "warmup": 0.1,
    }
    assert not {"momentum", "warmup_epochs"} & recorded.keys()


@pytest.mark.parametrize(
    ("unused", "in_force"),
    [
        ({"momentum": 0.5}, {"optimizer": "SGD"}),
        ({"warmup": 0.5}, {}),
    ],
)
def test_a_setting_is_part_of_the_identity_where_it_is_in_force_alone(unused, in_force):
    out_of_force = {} if "momentum" in unused else {"warmup_epochs": 1.0}
    for of in ("of_run", "of_trial"):
        plain, other = (getattr(TrainingProtocol(**out_of_force, **more), of)() for more in ({}, unused))
        assert plain == other
        plain, other = (getattr(TrainingProtocol(**in_force, **more), of)() for more in ({}, unused))
        assert plain != other


@pytest.mark.parametrize(
    "different", [{"optimizer": "SGD"}, {"schedule": "linear"}, {"schedule": "constant"}, {"warmup_epochs": 2.0}]
)
def test_optimiser_schedule_and_warm_up_in_epochs_are_part_of_the_identity(different):
    assert TrainingProtocol(**different).of_run() != TrainingProtocol().of_run()
    assert different.items() <= TrainingProtocol(**different).of_run().items()


@pytest.mark.parametrize(
    "refused", [{"momentum": 1.0}, {"momentum": -0.1}, {"warmup_epochs": -1.0}, {"epochs": 3, "warmup_epochs": 3.5}]
)
def test_settings_that_make_no_sense_are_refused(refused):
    with pytest.raises(ValueError, match=r"momentum must be|warmup_epochs must be"):
        TrainingProtocol(**refused)
