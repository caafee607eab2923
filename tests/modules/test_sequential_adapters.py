"""Adapters behind layers (Houlsby's, Pfeiffer's) against an independent computation of the formula in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from support.toys import ToyDecoder, ToyEncoder
from zipeft import registry
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.errors import UserError


def adapted(name, backbone):
    model = backbone.build().requires_grad_(False)
    registry.methods.get(name)(bottleneck=5).apply(backbone, model)
    for key, parameter in model.named_parameters():
        if "bottleneck" in key:
            nn.init.normal_(parameter, std=0.5)
    return model.double()


def behind(layer, x):
    """What an adapter makes of what its layer returned, if the layer has one."""
    if not hasattr(layer, "bottleneck"):
        return x
    down, up = layer.bottleneck.down, layer.bottleneck.up
    return x + torch.clamp(x @ down.weight.T + down.bias, min=0) @ up.weight.T + up.bias


@pytest.mark.parametrize(("name", "places"), [("houlsby", 2), ("pfeiffer", 1)])
def test_a_block_of_an_encoder_is_the_formula_in_float64(name, places):
    model = adapted(name, ToyEncoder())
    block = model.encoder.layer[0]
    assert sum(key.endswith("bottleneck") for key, _ in block.named_modules()) == places
    x = torch.randn(2, 7, 32, dtype=torch.float64)
    attended = block.attention.self(x)[0]
    dense = block.attention.output.dense
    plain = functional.linear(attended, dense.weight, dense.bias)
    hidden = block.attention.output.LayerNorm(behind(dense, plain) + x)
    wide = functional.gelu(functional.linear(hidden, block.intermediate.dense.weight, block.intermediate.dense.bias))
    end = block.output.dense
    expected = block.output.LayerNorm(behind(end, functional.linear(wide, end.weight, end.bias)) + hidden)
    output = block(x)
    output = output[0] if isinstance(output, tuple) else output
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "ends"), [("houlsby", ["self_attn.o_proj", "mlp.down_proj"]), ("pfeiffer", ["mlp.down_proj"])]
)
def test_a_block_of_a_decoder_has_them_behind_its_projections(name, ends):
    model = adapted(name, ToyDecoder())
    layers = {
        key.removesuffix(".bottleneck")
        for key, _ in model.model.layers[1].named_modules()
        if key.endswith("bottleneck")
    }
    assert layers == set(ends)
    plain = copy.deepcopy(model)
    for part in plain.modules():
        part._forward_hooks.clear()
    ids = torch.arange(3, 9)[None]
    assert not torch.allclose(model(ids).logits, plain(ids).logits)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "expected"), [("pfeiffer", 894_528), ("houlsby", 1_789_056)])
def test_counts_on_roberta_base(name, expected):
    """12 * (2 * 768 * 48 + 48 + 768), once or twice: the bottlenecks of a sixteenth of the width of AdapterHub."""
    backbone = Roberta("roberta-base", False)
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        registry.methods.get(name)(bottleneck=48).apply(backbone, model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


def test_a_block_without_linear_layers_is_refused():
    class Odd(ToyDecoder):
        def blocks(self, model):
            return [nn.Identity()]

    with pytest.raises(UserError, match="Identity has no linear layers that an adapter could follow"):
        registry.methods.get("houlsby")().apply(Odd(), nn.Identity())
