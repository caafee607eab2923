"""Activation checkpointing: the same gradients, with every method, prompts and dropout; and less that is kept."""

from __future__ import annotations

import pytest
import torch

from support import experiments
from support.exact_training import METHODS, OBJECTIVES, after_five_steps, assert_same
from support.fitting import fit_of
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.experiments.comparison import Contender, Run
from zipeft.objectives.default import default_objective
from zipeft.training.activation_checkpointing import checkpointed_activations
from zipeft.training.execution import Execution

OF_OBJECTIVES = [(toy, "zero_gated", objective) for objective, (toy, *_) in OBJECTIVES.items()]
CHECKPOINTED = Execution(checkpoint_activations=True)


@pytest.mark.parametrize("case", dict.fromkeys((*METHODS, *OF_OBJECTIVES)), ids="-".join)
def test_parameters_after_five_steps_are_those_without(case):
    assert_same(after_five_steps(*case, CHECKPOINTED), after_five_steps(*case))


@pytest.mark.parametrize("case", METHODS, ids="-".join)
def test_together_with_micro_batches_they_are_those_of_the_whole_batch(case):
    assert_same(after_five_steps(*case, Execution(3, checkpoint_activations=True)), after_five_steps(*case))


def gradients(learner, loss, checkpoint):
    torch.manual_seed(0)
    learner.zero_grad()
    if checkpoint:
        with checkpointed_activations(learner):
            loss().backward()
    else:
        loss().backward()
    return {
        name: parameter.grad.clone() for name, parameter in learner.trainable().items() if parameter.grad is not None
    }


@pytest.mark.parametrize("method", ["full", "zero_gated", "lora", "prompt"])
def test_dropout_draws_the_same_masks_on_the_way_back(method):
    fit = fit_of("toy_text", method)
    for module in fit.learner.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    batch = fit.train.batch(range(8))
    targets = batch.pop("targets")
    fit.learner.train()
    expected, found = (
        gradients(fit.learner, lambda: fit.objective.loss(fit.learner(**batch), targets), checkpoint)
        for checkpoint in (False, True)
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())
    torch.manual_seed(1)
    fit.learner.zero_grad()
    fit.objective.loss(fit.learner(**batch), targets).backward()
    others = {name: p.grad for name, p in fit.learner.trainable().items() if p.grad is not None}
    assert not all(torch.equal(gradient, expected[name]) for name, gradient in others.items()), "nothing was dropped"


def calls(learner, blocks, run):
    """How often each block is computed in a run."""
    counted = [0] * len(blocks)

    def count(place):
        return lambda *_: counted.__setitem__(place, counted[place] + 1)

    handles = [next(block.children()).register_forward_pre_hook(count(place)) for place, block in enumerate(blocks)]
    run()
    for handle in handles:
        handle.remove()
    return counted


def test_blocks_of_the_frozen_trunk_are_left_alone_and_all_is_as_it_was_afterwards():
    fit = fit_of("toy", "zero_gated", layers=2)
    learner, batch = fit.learner, fit.train.batch(range(4))
    targets, blocks = batch.pop("targets"), fit.learner.backbone.blocks(fit.learner.model)
    learner.find_trunk(batch["inputs"])
    assert (learner.frozen_blocks, len(blocks)) == (2, 4)
    learner.train()
    with checkpointed_activations(learner):
        assert calls(learner, blocks, lambda: fit.objective.loss(learner(**batch), targets).backward()) == [1, 1, 2, 2]
        with torch.no_grad():
            assert calls(learner, blocks, lambda: learner(**batch)) == [1, 1, 1, 1]
    assert calls(learner, blocks, lambda: fit.objective.loss(learner(**batch), targets).backward()) == [1, 1, 1, 1]
    assert not any("forward" in vars(block) for block in blocks)


@pytest.mark.parametrize("method", ["zero_gated", "full"])
def test_a_run_has_the_record_of_one_without_on_the_output_of_its_frozen_trunk_too(method):
    made = registry.methods.make(method, {"layers": 1} if method == "zero_gated" else {}).plugin
    run, records = Run("colours", Contender(method, made), 0), []
    for execution in (Execution(), CHECKPOINTED):
        experiment = experiments.experiment(epochs=2, batch_size=8)
        experiment.execution = execution
        records.append(experiment.measure(run)[0])
    plain, checkpointed = records
    assert checkpointed.history == plain.history
    assert checkpointed.test == plain.test


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "roberta", "llama", "clip", "vlm"])
@pytest.mark.parametrize("method", ["full", "zero_gated", "lora", "prompt", "linear"])
def test_gradients_of_real_backbones_are_the_same(name, method):
    backbone = registry.backbones.get(name)(pretrained=False)
    made = registry.methods.get(method)()
    if not made.goes_with(backbone.modality):
        pytest.skip(f"{method} does not go with {name}")
    torch.manual_seed(0)
    objective = made.objective(default_objective(backbone))
    model = backbone.build().requires_grad_(False)
    learner = build_learner(made.adapt, backbone, model, objective, ["a", "b"]).double().train()
    inputs = backbone.random_batch(2, image_size=56 if backbone.modality == "image" else None, length=24)
    inputs = inputs.double() if isinstance(inputs, torch.Tensor) else inputs
    expected, found = (gradients(learner, lambda: learner(inputs).square().mean(), each) for each in (False, True))
    assert_same(found, expected)
