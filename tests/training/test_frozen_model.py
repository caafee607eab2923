"""The frozen model that runs share: what of it they hold, and that none of them changes it."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from support import experiments
from support.method_cases import asked_for, methods_for, slow
from support.toys import TOYS, ToyViT
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.api.method import Method
from zipeft.errors import UserError
from zipeft.training.batches import ordered_batches
from zipeft.training.dataset import encode
from zipeft.training.frozen_model import FrozenModel, storages

PAIRS = [(name, method) for name, (backbone, _) in TOYS.items() for method in methods_for(backbone.modality)]
ASKED_FOR = slow((name, method) for name, (backbone, _) in TOYS.items() for method in asked_for(backbone.modality))


def experiment_on(name):
    backbone, task = TOYS[name]
    return experiments.experiment(backbone(), task(), epochs=1, batch_size=8, max_steps=2)


@cache
def prepared(name):
    """Return a backbone, its frozen model, a task's objective and classes, and a batch."""
    backbone, task = (part() for part in TOYS[name])
    (dataset,) = task.datasets()
    data = task.load_for(dataset, backbone)
    batch = next(iter(ordered_batches(encode(data.train, task.windows(backbone), backbone), 4)))[0].content
    return backbone, FrozenModel(backbone.load()), task.objective(dataset, data.classes), data.classes, batch


def of_size(*sizes):
    """Return how many storages of each of these sizes in bytes are alive."""
    gc.collect()
    alive = {
        each.untyped_storage().data_ptr(): each.untyped_storage().nbytes()
        for each in gc.get_objects()
        if isinstance(each, Tensor) and not isinstance(each, FakeTensor)
        if each.device.type == "cpu" and each.layout == torch.strided
    }
    counted = Counter(alive.values())
    return {size: counted[size] for size in sizes}


def own_storages(learner, frozen):
    """Return the names of parameters of a learner's model that are not on the frozen model's storage."""
    shared = storages(frozen.model)
    return {n for n, p in learner.model.named_parameters() if p.untyped_storage().data_ptr() not in shared}


@pytest.mark.parametrize(("name", "method"), [*PAIRS, *ASKED_FOR])
def test_a_run_holds_what_it_trains_and_shares_all_else(name, method):
    backbone, frozen, objective, classes, batch = prepared(name)
    method = registry.methods.get(method)()
    learner = build_learner(method.adapt, backbone, frozen.copy(), method.objective(objective), classes)
    frozen.part(learner)
    inputs = {key: value for key, value in batch.items() if key != "targets"}
    if trainable := list(learner.trainable().values()):
        loss = method.objective(objective).loss(learner.train()(**inputs), batch["targets"])
        loss.backward()
        torch.optim.SGD(trainable, lr=0.1).step()
    trained = {key for key, parameter in learner.model.named_parameters() if parameter.requires_grad}
    assert own_storages(learner, frozen) == trained
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    assert frozen.changed() == ""


@pytest.mark.parametrize("method", ["zero_gated", "lora"])
def test_runs_one_after_another_hold_one_set_of_frozen_weights(method):
    experiment = experiment_on("toy_instruct")
    (dataset,) = experiment.comparison.datasets()
    sizes = {parameter.untyped_storage().nbytes() for parameter in experiment.frozen.model.parameters()}
    large = sorted(sizes)[-3:]  # smaller ones are anything's
    once = of_size(*large)
    while_training = []
    for seed in (0, 1):
        run = experiments.run(dataset, method, seed)
        kept = experiment.measure(run, lambda _: while_training.append(of_size(*large)))
        assert of_size(*large) == once, f"with the learner of seed {seed}"
        del kept
    assert while_training == [once] * 4
    assert of_size(*large) == once


def test_full_fine_tuning_has_weights_of_its_own_and_leaves_the_frozen_ones():
    experiment = experiment_on("toy")
    run = experiments.run("colours", "full")
    _, learner = experiment.measure(run)
    assert own_storages(learner, experiment.frozen) == {name for name, _ in learner.model.named_parameters()}
    again, _ = experiment.measure(run)
    assert again.history == experiment_on("toy").measure(run)[0].history


@dataclass(frozen=True)
class Writes(Method):
    """Writes into frozen weights: counted, or past PyTorch's counters."""

    counted: bool = True

    def apply(self, backbone, model):
        with torch.no_grad():
            weight = model.blocks[0].attn.qkv.weight
            (weight if self.counted else weight.data)[0, 0] += 1


@pytest.mark.parametrize("counted", [True, False])
def test_a_method_that_writes_into_frozen_weights_is_an_error_and_other_runs_get_them_as_they_were(counted):
    experiment = experiment_on("toy")
    run = experiments.run("colours", "linear")
    expected = experiment.measure(run)[0].history
    with pytest.raises(UserError, match=r"changed the frozen weight blocks\.0\.attn\.qkv\.weight"):
        experiment.measure(experiments.run("colours", Writes(counted=counted)))
    assert experiment.measure(run)[0].history == expected


class Replaces(Writes):
    """Puts other weights in the place of frozen ones, as it may."""

    def apply(self, backbone, model):
        weight = model.blocks[0].attn.qkv.weight
        weight.data = weight.data + 1


def test_a_method_may_put_other_weights_in_the_place_of_frozen_ones():
    experiment = experiment_on("toy")
    frozen = experiment.frozen
    experiment.measure(experiments.run("colours", Replaces()))
    assert experiment.frozen is frozen
    assert not frozen.changed()


def test_a_copy_has_tied_parameters_tied_and_buffers_of_its_own():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    model.requires_grad_(False)
    frozen = FrozenModel(model)
    copied = frozen.copy()
    assert copied[2].weight is copied[0].weight is not model[0].weight
    copied[2].weight.requires_grad_(True)
    frozen.part(copied)
    assert copied[2].weight is copied[0].weight
    assert not model[0].weight.requires_grad
    copied[0].weight.data.add_(1)
    copied[1].running_mean.add_(1)
    assert not frozen.changed()
    assert not model[1].running_mean.any()


def test_every_change_of_a_storage_is_seen():
    model = ToyViT().load()
    frozen = FrozenModel(model)
    for name, parameter in frozen.copy().named_parameters():
        last = parameter.data.view(-1)[-1:]
        before = last.clone()
        last += 1
        assert frozen.changed() == name
        last.copy_(before)
        assert not frozen.changed()


def test_methods_are_registered():
    assert {"full", "bitfit", "lora", "zero_gated"} <= {method for _, method in PAIRS} <= set(registry.methods.names())
