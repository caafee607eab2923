"""A ViT of timm that is small enough to be computed by hand, and the parts of its blocks in float64."""

from __future__ import annotations

import timm
import torch
from torch import nn
from torch.nn import functional

from zipeft import registry
from zipeft.backbones.vit.backbone import ViT

WIDTH, HEADS = 24, 2


class SmallViT(ViT):
    """Two blocks, with random weights."""

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            size = {"img_size": 16, "patch_size": 4, "embed_dim": WIDTH, "depth": 2, "num_heads": HEADS}
            return timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **size).eval()


def applied(name, **settings) -> nn.Module:
    backbone = SmallViT()
    model = backbone.build().requires_grad_(False)
    torch.manual_seed(1)
    registry.methods.get(name)(**settings).apply(backbone, model)
    return model


def moved(model: nn.Module) -> nn.Module:
    """Draw anew all that trains: at the start it adds nothing."""
    torch.manual_seed(2)
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return model


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The attention of queries, keys and values (batch, tokens, width), before the output projection."""
    q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (q, k, v))
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(-2)


def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return x @ layer.weight.T + layer.bias


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def norm(x: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)


def trained_on_vit_b_16(name, **settings) -> int:
    """How many parameters of a method train on ViT-B/16."""
    backbone = ViT("vit_base_patch16_224", False)
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        registry.methods.get(name)(**settings).apply(backbone, model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
