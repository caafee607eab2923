"""Activation checkpointing: the same gradients, with every method, prompts and dropout; and less that is kept."""

from __future__ import annotations

from types import SimpleNamespace

import open_clip.transformer
import pytest
import torch

from support import experiments
from support.exact_training import METHODS, OBJECTIVES, after_five_steps, assert_same
from support.fitting import fit_of
from support.form_models import HOOKED
from support.method_cases import covered
from support.model_zoo import ZOO, Entry, hidden_states, randomise_prompts
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.experiments.comparison import Contender, Run
from zipeft.objectives.default import default_objective
from zipeft.splices import attach
from zipeft.training.activation_checkpointing import checkpointed_activations
from zipeft.training.execution import Execution

OF_OBJECTIVES = [(toy, "zero_gated", objective) for objective, (toy, *_) in OBJECTIVES.items()]
CHECKPOINTED = Execution(checkpoint_activations=True)


@pytest.mark.parametrize(("toy", "method", "objective"), covered(dict.fromkeys((*METHODS, *OF_OBJECTIVES))))
def test_parameters_after_five_steps_are_those_without(toy, method, objective):
    case = toy, method, objective
    assert_same(after_five_steps(*case, CHECKPOINTED), after_five_steps(*case))


@pytest.mark.parametrize(("toy", "method", "objective"), covered(METHODS))
def test_together_with_micro_batches_they_are_those_of_the_whole_batch(toy, method, objective):
    case = toy, method, objective
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


def own_attention():
    """Blocks with open_clip's own class of attention, which no model of its version 3.3 has by default."""
    return torch.nn.Sequential(*(open_clip.transformer.CustomResidualAttentionBlock(32, 4) for _ in range(2)))


OWN_ATTENTION = Entry(own_attention, hidden_states, lambda model, inputs: model(inputs["src"]))
SPLICED = {
    "transformers": (ZOO["roberta"], lambda model: model.roberta.encoder.layer),
    "timm": (ZOO["timm_vit"], lambda model: model.blocks),
    "timm_rope": (ZOO["timm_dinov3"], lambda model: model.blocks),
    "multihead": (ZOO["torch_encoder"], lambda model: model.layers),
    "open_clip": (OWN_ATTENTION, lambda model: model),
    "transformers_hooked": (HOOKED["bloom"], lambda model: model.h),
    "vision_hooked": (HOOKED["timm beit"], lambda model: model.blocks),
}
"""A model for every splice, and its blocks."""


def kept(model, run):
    """The bytes that a run keeps for its way back, parameters left out, and the gradients of what trains."""
    own, sizes = {p.untyped_storage()._cdata for p in model.parameters()}, {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            sizes[storage._cdata] = (storage.nbytes(), storage)  # held, so that no other one takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    return sum(size for size, _ in sizes.values()), gradients


@pytest.mark.parametrize("splice", registry.splices.names())
def test_less_is_kept_for_the_same_gradients_with_every_splice(splice):
    entry, blocks_of = SPLICED[splice]
    model = entry.frozen().train()
    randomise_prompts(attach(model, length=5))
    joined = {type(vars(module)["zipeft_splice"]) for module in model.modules() if "zipeft_splice" in vars(module)}
    assert joined == {registry.splices.get(splice)}
    blocks = list(blocks_of(model))
    backbone = SimpleNamespace(towers=lambda _: {"only": blocks}, blocks=lambda _: blocks)
    learner = SimpleNamespace(backbone=backbone, model=model, only_head_trains=False, frozen_blocks=0)
    whole, expected = kept(model, lambda: entry.run(model))
    with checkpointed_activations(learner):
        less, found = kept(model, lambda: entry.run(model))
    assert 0 < less < whole
    assert all(gradient.any() for gradient in expected)
    assert all(map(torch.equal, found, expected))
