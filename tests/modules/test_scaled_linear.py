"""Linear layers with a scale and a bias of their outputs: they start as the layer, and fold into one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from support.toys import SIZE, ToyDecoder, ToyEncoder, ToyViT
from zipeft import registry
from zipeft.modules.scaled_linear import ScaledLinear, scale_linears
from zipeft.splices import gated_prompts

BACKBONES = {"timm": ToyViT(), "roberta": ToyEncoder(), "llama": ToyDecoder()}


def inputs(name):
    if name == "timm":
        return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(3, 14, (2, 7), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_it_starts_as_the_layer_bit_for_bit(bias, dtype):
    linear = nn.Linear(6, 5, bias=bias).to(dtype)
    scaled, x = ScaledLinear(linear), torch.randn(4, 6).to(dtype)
    assert torch.equal(scaled(x), linear(x))
    assert scaled(x).dtype == dtype
    assert {scaled.scale.dtype, scaled.shift.dtype} == {torch.float32}
    assert scaled.weight is linear.weight


@pytest.mark.parametrize("bias", [True, False])
def test_outputs_are_shifted_and_scaled(bias):
    linear = nn.Linear(6, 5, bias=bias).double()
    scaled, x = ScaledLinear(linear), torch.randn(4, 6).double()
    with torch.no_grad():
        scaled.scale.normal_()
        scaled.shift.normal_()
    expected = scaled.scale * (x @ linear.weight.T + (linear.bias if bias else 0) + scaled.shift)
    torch.testing.assert_close(scaled(x), expected)


def test_every_plain_linear_layer_is_replaced_and_no_other_one():
    class Own(nn.Linear):
        """What else this does is not known."""

    part = nn.ModuleDict(
        {"one": nn.Linear(3, 3), "inside": nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), "own": Own(3, 3)}
    )
    scaled = scale_linears([part])
    assert [type(module) for module in (part["one"], part["inside"][1], part["own"])] == [ScaledLinear] * 2 + [Own]
    assert scaled == [part["one"], part["inside"][1]]
    assert {name for name, _ in part.named_parameters() if name.endswith(("scale", "shift"))} == {
        "one.scale", "one.shift", "inside.1.scale", "inside.1.shift",
    }  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_tokens_and_prompts_pass_what_folds_into_a_linear_layer(name):
    backbone = BACKBONES[name]
    model = backbone.build().requires_grad_(False)
    torch.manual_seed(0)
    registry.methods.get("zero_gated_v2")(length=3, visual_length=5).apply(backbone, model)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter += 0.3 * torch.randn_like(parameter)
    folded = copy.deepcopy(model)
    for parent in list(folded.modules()):
        for child, layer in list(parent.named_children()):
            if isinstance(layer, ScaledLinear):
                plain = nn.Linear(layer.in_features, layer.out_features)
                plain.weight = nn.Parameter((layer.scale[:, None] * layer.weight).detach())
                bias = layer.shift if layer.bias is None else layer.shift + layer.bias
                plain.bias = nn.Parameter((layer.scale * bias).detach())
                setattr(parent, child, plain)
    assert not any(isinstance(module, ScaledLinear) for module in folded.modules())
    assert [len(prompt.prompt) for prompt in gated_prompts(folded)] == [5] + [3] * (len(backbone.blocks(model)) - 1)
    with torch.no_grad():
        one, other = (backbone.features(each, inputs(name)) for each in (model, folded))
        for prompt in gated_prompts(folded):
            prompt.gate.zero_()
        ungated = backbone.features(folded, inputs(name))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert (other - ungated).abs().max() > 0.01
