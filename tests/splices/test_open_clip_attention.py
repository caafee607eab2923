"""open_clip's own attention class, as version 3.3 and as later versions have it, against the float64 reference."""

from __future__ import annotations

import copy

import open_clip.transformer
import pytest
import torch
from torch import nn
from torch.nn import functional

from support.model_zoo import randomise, randomise_prompts
from support.reference import Layer, identity, layer_norm, of_fused, of_linear
from zipeft.errors import UserError
from zipeft.splices import attach, detach

TOLERANCE = 1e-5
BATCH, QUERIES, WIDTH, HEADS = 2, 5, 32, 4
DIM = WIDTH // HEADS


class Attention(nn.Module):
    """The attributes and the forward of open_clip's class after 3.3, as far as it is joined."""

    def __init__(self, dim, num_heads, kdim=None, qkv_bias=True, qk_norm=False, inner_norm=False, **scales):
        super().__init__()
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.scale = self.head_dim**-0.5
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * dim, dim)) if kdim in (None, dim) else None
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim)) if qkv_bias else None
        self.ln_q, self.ln_k = (nn.LayerNorm(self.head_dim) if qk_norm else nn.Identity() for _ in "qk")
        self.logit_scale = nn.Parameter(torch.ones(num_heads, 1, 1)) if scales.get("scaled_cosine") else None
        self.head_scale = nn.Parameter(torch.ones(num_heads, 1, 1)) if scales.get("scale_heads") else None
        self.attn_drop = nn.Dropout(0.0)
        self.ln_inner = nn.LayerNorm(dim) if inner_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)
        self.out_drop = nn.Dropout(0.0)

    def forward(self, x, k_x=None, v_x=None, attn_mask=None):
        sources = x, x if k_x is None else k_x, x if v_x is None else v_x
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projected = map(functional.linear, sources, self.in_proj_weight.chunk(3), biases)
        q, k, v = (each.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for each in projected)
        out = functional.scaled_dot_product_attention(self.ln_q(q), self.ln_k(k), v, attn_mask, scale=self.scale)
        out = out if self.head_scale is None else out * self.head_scale
        return self.out_drop(self.out_proj(self.ln_inner(out.transpose(1, 2).flatten(2))))


CLASSES = {"3.3": open_clip.transformer.Attention, "later": Attention}
SETTINGS = {
    "plain": {},
    "no bias": {"qkv_bias": False},
    "qk norm": {"qk_norm": True},
    "inner norm": {"inner_norm": True},
    "scaled heads": {"inner_norm": True, "scale_heads": True},
    "both norms": {"qk_norm": True, "inner_norm": True, "qkv_bias": False},
}


def layer(version="later", **settings):
    torch.manual_seed(0)
    return randomise(CLASSES[version](WIDTH, HEADS, **settings)).requires_grad_(False).eval()


def reference(attention):
    def norm(part):
        return layer_norm(part) if isinstance(part, nn.LayerNorm) else identity

    def scaled(joined):
        each = attention.head_scale
        return joined if each is None else (joined.unflatten(-1, (HEADS, -1)) * each.double().view(-1, 1)).flatten(-2)

    inner = norm(attention.ln_inner)
    return Layer(
        *of_fused(attention.in_proj_weight, attention.in_proj_bias),
        of_linear(attention.out_proj),
        DIM,
        DIM**-0.5,
        norm(attention.ln_q),
        norm(attention.ln_k),
        before_output=lambda joined, _hidden: inner(scaled(joined)),
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("version", CLASSES)
def test_a_joined_layer(version, setting, masked):
    """At zero gate it is the layer's own result to the last bit, at other gates the reference; it comes off again."""
    attention = layer(version, **SETTINGS[setting])
    x, mask = torch.randn(BATCH, QUERIES, WIDTH), torch.randn(QUERIES, QUERIES) if masked else None
    own = attention(x, attn_mask=mask)
    prompts = attach(attention, length=3)
    assert torch.equal(attention(x, attn_mask=mask), own)
    randomise_prompts(prompts)
    expected = reference(attention)(x, prompts[0], mask)
    assert (expected - own).abs().max() > 0.05
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert (attention(x, attn_mask=mask) - expected).abs().max() <= TOLERANCE
    assert (copy.deepcopy(attention)(x, attn_mask=mask) - expected).abs().max() <= TOLERANCE
    detach(attention)
    assert torch.equal(attention(x, attn_mask=mask), own)


def test_keys_and_values_of_another_source():
    attention = layer(qk_norm=True)
    x, keys, values = torch.randn(BATCH, QUERIES, WIDTH), *torch.randn(2, BATCH, QUERIES + 2, WIDTH)
    prompts = randomise_prompts(attach(attention, length=3))
    expected = reference(attention)(x, prompts[0], keys=keys, values=values)
    assert (attention(x, k_x=keys, v_x=values) - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("setting", [{"scaled_cosine": True}, {"kdim": 16}])
def test_a_layer_of_which_more_decides_than_is_known_is_not_joined(setting):
    with pytest.raises(UserError, match="no attention layer that a splice knows"):
        attach(layer(**setting))


def test_a_change_of_the_projection_reaches_the_prompts():
    """Where gradients are off, the prompt's keys and values are kept from one forward to the next."""
    attention = layer(qk_norm=True)
    x = torch.randn(BATCH, QUERIES, WIDTH)
    prompts = randomise_prompts(attach(attention, length=3))
    with torch.no_grad():
        for parameter in attention.parameters():
            attention(x)
            parameter.mul_(-1.1)
            assert (attention(x) - reference(attention)(x, prompts[0])).abs().max() <= TOLERANCE
