"""Scales and shifts against an independent computation of the paper's formula in float64."""

from __future__ import annotations

import timm
import torch
from torch import nn
from torch.nn import functional

from zipeft import registry
from zipeft.backbones.vit.backbone import ViT
from zipeft.modules.scale_shift import ScaleShift, insert

WIDTH = 24


def vit() -> nn.Module:
    torch.manual_seed(0)
    size = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "depth": 2, "num_heads": 2, "num_classes": 0}
    return timm.create_model("vit_tiny_patch16_224", **size).eval().requires_grad_(False)


def scaled(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    return x * layer.scale_shift.scale + layer.scale_shift.shift


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return scaled(x @ layer.weight.T + layer.bias, layer)


def norm(x: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    root = (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt()
    return scaled(centred / root * layer.weight + layer.bias, layer)


def by_the_formula(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = x.shape
    q, k, v = linear(norm(x, block.norm1), block.attn.qkv).view(batch, tokens, 3, 2, -1).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    x = x + linear((weights @ v).transpose(1, 2).reshape(batch, tokens, width), block.attn.proj)
    return x + linear(functional.gelu(linear(norm(x, block.norm2), block.mlp.fc1)), block.mlp.fc2)


def test_a_block_and_the_patches_are_the_formula_in_float64():
    model = vit()
    assert insert(model) == 2 * 6 + 2  # six layers of each block, the patches, the last normalisation
    for part in model.modules():
        if isinstance(part, ScaleShift):
            nn.init.normal_(part.scale)
            nn.init.normal_(part.shift)
    model = model.double()
    x = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    for block in model.blocks:
        torch.testing.assert_close(block(x), by_the_formula(block, x), rtol=1e-11, atol=1e-11)
    patches, images = model.patch_embed.proj, torch.randn(2, 3, 16, 16, dtype=torch.float64)
    plain = functional.conv2d(images, patches.weight, patches.bias, stride=4)
    expected = scaled(plain.flatten(2).transpose(1, 2), patches)
    torch.testing.assert_close(model.patch_embed(images), expected, rtol=1e-11, atol=1e-11)


def test_what_trains_on_vit_b_16():
    """Two vectors behind each layer: 12 * 2 * (768 * (1 + 3 + 1 + 1 + 4 + 1)) + 2 * 2 * 768."""
    backbone = ViT("vit_base_patch16_224", False)
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        registry.methods.get("ssf")().apply(backbone, model)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 12 * 2 * 768 * 11 + 2 * 2 * 768 == 205_824
