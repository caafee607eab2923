"""Convpass against an independent computation of the paper's formula in float64."""

from __future__ import annotations

import pytest
import torch

from support.small_vit import WIDTH, applied, attend, gelu, linear, moved, norm, trained_on_vit_b_16
from support.toys import ToyEncoder
from zipeft import registry
from zipeft.errors import UserError

SCALE = 0.7


def convolved(image, conv):
    """A 3 x 3 convolution with zeros around, of (batch, rows, columns, channels), place by place."""
    _, rows, columns, _ = image.shape
    output = torch.zeros_like(image)
    for row in range(rows):
        for column in range(columns):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    if 0 <= row + down < rows and 0 <= column + right < columns:
                        tap = conv.weight[:, :, down + 1, right + 1]
                        output[:, row, column] += image[:, row + down, column + right] @ tap.T
    return output + conv.bias


def bypass(h, adapter, rows, columns):
    narrow = gelu(linear(h, adapter.down))
    token = convolved(narrow[:, :1].unflatten(1, (1, 1)), adapter.conv).flatten(1, 2)
    patches = convolved(narrow[:, 1:].unflatten(1, (rows, columns)), adapter.conv).flatten(1, 2)
    return SCALE * linear(gelu(torch.cat([token, patches], 1)), adapter.up)


def by_the_formula(block, x, rows, columns):
    h = norm(x, block.norm1)
    attended = linear(attend(*linear(h, block.attn.qkv).chunk(3, -1)), block.attn.proj)
    x = x + attended + bypass(h, block.attention_bypass, rows, columns)
    h = norm(x, block.norm2)
    forward = linear(gelu(linear(h, block.mlp.fc1)), block.mlp.fc2)
    return x + forward + bypass(h, block.feed_forward_bypass, rows, columns)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_a_block_is_the_formula_in_float64_on_grids_that_are_square_or_not(size):
    model = moved(applied("convpass", bottleneck=5, scale=SCALE)).double()
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda block, args, output: seen.append((block, args[0], output)))
    model(torch.randn(2, 3, *size, dtype=torch.float64))
    assert len(seen) == 2
    for block, x, output in seen:
        assert x.shape == (2, 1 + size[0] * size[1] // 16, WIDTH)
        expected = by_the_formula(block, x, size[0] // 4, size[1] // 4)
        torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)


def test_what_trains_on_vit_b_16():
    """24 bypasses of 2*768*8 + 8 + 768 and a convolution of 9*8*8 + 8: the paper's 0.33M."""
    assert trained_on_vit_b_16("convpass") == 24 * (2 * 768 * 8 + 8 + 768 + 9 * 8 * 8 + 8) == 327_552


def test_a_text_backbone_is_refused_in_a_line():
    backbone = ToyEncoder()
    with pytest.raises(UserError, match="convpass: it convolves patches of images, and RobertaModel makes none"):
        registry.methods.get("convpass")().apply(backbone, backbone.build())
    assert not registry.methods.get("convpass").goes_with("text")
