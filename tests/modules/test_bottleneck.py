"""Bottleneck adapters against an independent computation of the paper's formula in float64."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from zipeft.errors import UserError
from zipeft.modules.bottleneck import Bottleneck, insert

WIDTH, NARROW, SCALE = 24, 5, 0.3


def vit(**settings) -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "depth": 2, "num_heads": 2, "num_classes": 0}
    model = timm.create_model("vit_tiny_patch16_224", **size, **settings).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model


def adapted(model: nn.Module, dropout: float = 0.0) -> nn.Module:
    insert(model.blocks, width=WIDTH, bottleneck=NARROW, scale=SCALE, dropout=dropout)
    return model


def moved(model: nn.Module) -> nn.Module:
    """Draw all adapters' parameters anew: at the start they add nothing."""
    for block in model.blocks:
        for parameter in block.bottleneck.parameters():
            nn.init.normal_(parameter, std=0.5)
    return model


def by_the_formula(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x + block.ls1(block.attn(block.norm1(x)))
    hidden = block.norm2(x)
    forward = block.mlp.fc2(functional.gelu(block.mlp.fc1(hidden)))
    if isinstance(block.ls2, timm.layers.LayerScale):
        forward = forward * block.ls2.gamma
    adapter = block.bottleneck
    narrow = torch.clamp(hidden @ adapter.down.weight.T + adapter.down.bias, min=0)
    return x + forward + SCALE * (narrow @ adapter.up.weight.T + adapter.up.bias)


@pytest.mark.parametrize("settings", [{}, {"init_values": 1e-5}], ids=["plain", "with LayerScale"])
def test_a_block_is_the_formula_in_float64(settings):
    model = moved(adapted(vit(**settings))).double()
    x = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    for block in model.blocks:
        torch.testing.assert_close(block(x), by_the_formula(block, x), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(block(x), x)


def test_it_starts_as_the_model_was_and_every_parameter_learns_after_a_step():
    model, images = vit(), torch.randn(2, 3, 16, 16)
    before = model(images)
    adapted(model)
    assert torch.equal(model(images), before)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trainable) == 2 * (2 * WIDTH * NARROW + WIDTH + NARROW)
    readout = torch.randn(WIDTH)  # the norm of the features is fixed
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (model(images) @ readout).sum().backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable)


def test_a_copy_has_adapters_of_its_own():
    model, images = adapted(vit()), torch.randn(2, 3, 16, 16)
    twin = moved(copy.deepcopy(model))
    assert torch.equal(model(images), vit()(images))
    assert not torch.allclose(twin(images), model(images))


def test_it_adds_in_the_dtype_of_the_model():
    model = moved(adapted(vit().to(torch.bfloat16)))
    assert {parameter.dtype for block in model.blocks for parameter in block.bottleneck.parameters()} == {torch.float32}
    assert model(torch.randn(1, 3, 16, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_dropout_is_drawn_while_training_alone():
    adapter, hidden = Bottleneck(WIDTH, NARROW, SCALE, dropout=0.5), torch.randn(2, 3, WIDTH)
    nn.init.normal_(adapter.up.weight)
    assert not torch.equal(adapter.train()(hidden), adapter(hidden))
    assert torch.equal(adapter.eval()(hidden), adapter(hidden))


def test_a_block_without_a_feed_forward_layer_is_refused():
    with pytest.raises(UserError, match="Linear has no feed-forward layer named mlp"):
        insert([nn.Linear(2, 2)], width=2, bottleneck=1, scale=1.0, dropout=0.0)
