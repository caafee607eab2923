"""Modules that change a model by hooks: they come off it, and into its weights where one can stand for them."""

from __future__ import annotations

import copy

import pytest
import torch

from support.small_vit import SmallViT, applied, moved
from support.toys import ToyCLIP
from zipeft import registry
from zipeft.errors import UserError
from zipeft.modules.hooked import detach, merge
from zipeft.training.frozen_model import FrozenModel

MERGED = ("repadapter", "fact_tt", "fact_tk")
EACH = pytest.mark.parametrize("name", [*MERGED, "convpass", "adaptformer", "ssf", "prompt", "deep_prompt"])
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trainable(model):
    return {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}


@EACH
def test_detached_it_is_the_untouched_model(name):
    plain, model = SmallViT().build(), moved(applied(name))
    assert not torch.allclose(model(IMAGES), plain(IMAGES))
    twin = copy.deepcopy(model)  # has hooks of its own
    detach(model)
    assert not torch.allclose(twin(IMAGES), plain(IMAGES))
    detach(twin)
    for each in (model, twin):
        assert torch.equal(each(IMAGES), plain(IMAGES))
        assert [key for key, _ in each.named_modules()] == [key for key, _ in plain.named_modules()]
        assert each.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", MERGED)
def test_merged_weights_compute_what_was_learnt_and_are_the_model_s_own(name):
    backbone = SmallViT()
    frozen = FrozenModel(backbone.build().requires_grad_(False))
    model = frozen.copy()
    registry.methods.get(name)(scale=0.3).apply(backbone, model)
    learnt = moved(model)(IMAGES)
    merge(model)
    assert trainable(model) == {}
    assert model.state_dict().keys() == frozen.model.state_dict().keys()
    torch.testing.assert_close(model(IMAGES), learnt, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(IMAGES), frozen.model(IMAGES), atol=1e-2)
    assert frozen.changed() == ""


@pytest.mark.parametrize("name", MERGED)
def test_attention_of_pytorch_itself_takes_it_in_too(name):
    backbone = ToyCLIP()
    model, own = (backbone.build().requires_grad_(False) for _ in range(2))
    registry.methods.get(name)(scale=0.3).apply(backbone, model)
    images = backbone.random_batch(2)
    start, frozen = backbone.features(model, images), backbone.features(own, images)
    torch.testing.assert_close(start, frozen)  # PyTorch computes attention that it can infer by another kernel
    learnt = backbone.features(moved(model), images)
    merge(model)
    torch.testing.assert_close(backbone.features(model, images), learnt, rtol=1e-4, atol=1e-4)
    assert {type(part) for part in model.modules()} == {type(part) for part in own.modules()}


def test_a_bias_is_made_where_a_layer_has_none():
    model = moved(applied("repadapter"))
    for block in model.blocks:
        block.attn.qkv.bias = None
    learnt = model(IMAGES)
    merge(model)
    torch.testing.assert_close(model(IMAGES), learnt, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["convpass", "adaptformer"])
def test_what_no_weight_computes_is_refused_in_a_line(name):
    with pytest.raises(UserError, match="cannot be merged: no weight of the model computes what it does"):
        merge(applied(name))


def test_quantised_weights_are_refused_in_a_line():
    model = applied("fact_tt")
    model.blocks[0].attn.qkv.weight = torch.nn.Parameter(torch.zeros(72, 24, dtype=torch.int8), requires_grad=False)
    with pytest.raises(UserError, match="quantised weights cannot be merged into: take dtype=bf16"):
        merge(model)


@EACH
def test_what_is_saved_comes_back_under_any_seed(name):
    model, again = moved(applied(name)), applied(name)
    assert trainable(again).keys() == trainable(model).keys()
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    with torch.no_grad():
        for key, parameter in trainable(again).items():
            parameter.copy_(trainable(model)[key])
    assert torch.equal(again(IMAGES), model(IMAGES))
