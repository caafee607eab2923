"""RepAdapter against an independent computation of the paper's formula in float64."""

from __future__ import annotations

import pytest
import torch

from support.small_vit import WIDTH, applied, attend, gelu, linear, moved, norm, trained_on_vit_b_16
from zipeft import registry
from zipeft.errors import UserError

SCALE = 0.7


def adapted(x, adapter):
    """x + s * (the two halves of the narrow layer, each times its own matrix)."""
    narrow = linear(x, adapter.down)
    half = narrow.shape[-1] // 2
    wide = torch.cat([narrow[..., :half] @ adapter.up[0], narrow[..., half:] @ adapter.up[1]], -1)
    return x + SCALE * (wide + adapter.bias)


def by_the_formula(block, x):
    q, k, v = linear(adapted(norm(x, block.norm1), block.attention_adapter), block.attn.qkv).chunk(3, -1)
    x = x + linear(attend(q, k, v), block.attn.proj)
    hidden = adapted(norm(x, block.norm2), block.feed_forward_adapter)
    return x + linear(gelu(linear(hidden, block.mlp.fc1)), block.mlp.fc2)


def test_a_block_is_the_formula_in_float64():
    model = moved(applied("repadapter", bottleneck=6, scale=SCALE)).double()
    x = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    for block in model.blocks:
        torch.testing.assert_close(block(x), by_the_formula(block, x), rtol=1e-11, atol=1e-11)


def test_what_trains_on_vit_b_16():
    """24 times 768*8 + 8*768/2 weights, the paper's 0.22M, and 8 + 768 biases."""
    weights = 24 * (768 * 8 + 8 * 384)
    assert trained_on_vit_b_16("repadapter") == weights + 24 * (8 + 768) == 239_808
    assert weights == 221_184


@pytest.mark.parametrize("groups", [5, 3])
def test_groups_that_do_not_fit_are_refused(groups):
    with pytest.raises((UserError, ValueError), match="groups must divide"):
        applied("repadapter", bottleneck=10, groups=groups)


def test_groups_must_divide_the_width():
    with pytest.raises(UserError, match="repadapter: groups must divide the model's width, and 5 does not divide 24"):
        applied("repadapter", bottleneck=10, groups=5)


def test_it_is_for_images():
    assert not registry.methods.get("repadapter").goes_with("text")
