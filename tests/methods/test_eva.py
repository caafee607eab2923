"""EVA: its start is the main directions of the layers' inputs, and near what peft makes of the same examples."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from accelerate import Accelerator
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from torch.nn import functional

from support.fitting import fit_of
from support.toys import ToyDecoder
from zipeft import registry
from zipeft.errors import UserError
from zipeft.training.initialisation import drawn, initialise

SETTINGS = {"rank": 3, "examples": 12}


def started(toy, **settings):
    """A toy to which the method was applied, before and after it saw training examples, and what it saw."""
    fit = fit_of(toy, "eva", **SETTINGS | settings)
    before = {name: p.detach().clone() for name, p in fit.learner.trainable().items()}
    initialise(fit.learner, fit.method, fit.objective, fit.train, 0, Accelerator(cpu=True), 8)
    return fit, before


@pytest.mark.parametrize("toy", ["toy", "toy_text", "toy_instruct", "toy_image_text"])
def test_it_starts_at_the_main_directions_of_what_each_layer_is_given(toy):
    fit, before = started(toy)
    learner, given = fit.learner.eval(), {}
    layers = {name: part for name, part in learner.named_modules() if hasattr(part, "lora_A")}
    handles = [
        layer.register_forward_pre_hook(
            lambda _, args, name=name: given.setdefault(name, []).append(args[0].flatten(0, -2))
        )
        for name, layer in layers.items()
    ]
    sample = drawn(fit.train, SETTINGS["examples"], 0)
    with torch.no_grad():
        for index in range(len(sample)):
            learner(sample.batch([index])["inputs"])
    for handle in handles:
        handle.remove()
    for name, layer in layers.items():
        down = layer.lora_A["default"].weight.detach()
        assert not torch.equal(down, before[f"{name}.lora_A.default.weight"])
        torch.testing.assert_close(down @ down.T, torch.eye(3), rtol=0, atol=1e-5)
        inputs = torch.cat(given[name])
        inputs = inputs - inputs.mean(0)
        most = torch.linalg.svdvals(inputs)[:3].square().sum() / inputs.square().sum()
        kept = (inputs @ down.T).square().sum() / inputs.square().sum()
        torch.testing.assert_close(kept, most)
        assert torch.count_nonzero(layer.lora_B["default"].weight) == 0


def test_peft_used_directly_settles_at_the_same_directions():
    fit, _ = started("toy_instruct")
    backbone = ToyDecoder()
    config = LoraConfig(
        r=3,
        target_modules=list(backbone.lora_targets),
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=1.0),
    )
    model = get_peft_model(backbone.build().requires_grad_(False), config, low_cpu_mem_usage=True)
    sample = drawn(fit.train, 12, 0)
    batches = []
    for _, alike in groupby(sample.order(), key=sample.lengths.__getitem__):
        indices = list(alike)
        batches += [sample.batch(indices[at : at + 8])["inputs"] for at in range(0, len(indices), 8)]
    assert all(batch["input_ids"].numel() >= 3 for batch in batches)
    initialize_lora_eva_weights(
        model,
        batches,
        forward_fn=lambda model, batch: model(batch["input_ids"]),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=None,
        show_progress_bar=False,
    )
    theirs = dict(model.base_model.model.named_parameters())
    for name, parameter in fit.learner.model.named_parameters():
        if ".lora_A." in name:
            cosine = functional.cosine_similarity(parameter, theirs[name], dim=1).abs()
            torch.testing.assert_close(cosine, torch.ones(3), rtol=0, atol=0.02)


def test_it_starts_at_the_frozen_model_and_learns():
    fit, _ = started("toy")
    batch = fit.train.batch([0, 1])["inputs"]
    features = fit.learner.backbone.features
    frozen = fit.learner.backbone.build()
    assert torch.equal(features(fit.learner.eval().model, batch), features(frozen, batch))
    log, moved = fit.on(Accelerator(cpu=True), epochs=3)
    assert log.history[-1].train_loss < log.history[0].train_loss
    assert all(each.abs().max() > 0 for each in moved.values())


def test_more_ranks_than_inputs_are_refused_in_a_line():
    with pytest.raises(UserError, match=r"eva: a layer has 32 inputs, and no more directions: lower eva\.rank"):
        started("toy_instruct", rank=33)
    with pytest.raises(ValueError, match="examples"):
        registry.methods.get("eva")(examples=0)
