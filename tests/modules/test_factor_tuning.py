"""FacT's two forms against an independent computation of the paper's formulas in float64."""

from __future__ import annotations

import pytest
import torch

from support.small_vit import WIDTH, applied, attend, gelu, linear, moved, norm, trained_on_vit_b_16
from support.toys import ToyDecoder
from zipeft import registry
from zipeft.errors import UserError

SCALE = 0.7
FORMS = pytest.mark.parametrize("name", ["fact_tt", "fact_tk"])


def core(factors, index):
    """One slice's core, number by number."""
    if not hasattr(factors, "p"):
        return factors.middle[index]
    return sum(factors.p[index, each] * factors.middle[each] for each in range(len(factors.middle)))


def increment(factors, first, inputs, outputs):
    """A layer's increment (outputs, inputs), put together of squares: out of each part of its inputs into each part of
    its outputs."""
    squares = [
        [SCALE * factors.u @ core(factors, first + a * outputs + b) @ factors.v for b in range(outputs)]
        for a in range(inputs)
    ]
    return torch.cat([torch.cat(row, 1) for row in squares], 0).T


def by_the_formula(block, x, factors, first):
    """Twelve squares a block: queries, keys, values, the output, and four of each layer of the feed-forward."""

    def changed(x, layer, begin, inputs, outputs):
        return x @ (layer.weight + increment(factors, begin, inputs, outputs)).T + layer.bias

    q, k, v = changed(norm(x, block.norm1), block.attn.qkv, first, 1, 3).chunk(3, -1)
    x = x + changed(attend(q, k, v), block.attn.proj, first + 3, 1, 1)
    wide = gelu(changed(norm(x, block.norm2), block.mlp.fc1, first + 4, 1, 4))
    return x + changed(wide, block.mlp.fc2, first + 8, 4, 1)


@FORMS
def test_a_block_is_the_formula_in_float64(name):
    model = moved(applied(name, rank=3, scale=SCALE)).double()
    x = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    for number, block in enumerate(model.blocks):
        expected = by_the_formula(block, x, model.factor_tuning, 12 * number)
        torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)
        assert not torch.allclose(block(x), x + linear(x, block.attn.proj))


@pytest.mark.parametrize(
    ("name", "rank", "expected"),
    [
        ("fact_tt", 16, 2 * 768 * 16 + 144 * 16**2),  # 61,440
        ("fact_tk", 16, 2 * 768 * 16 + 144 * 16 + 16**3),  # 30,976: 0.03M
        ("fact_tk", 32, 2 * 768 * 32 + 144 * 32 + 32**3),
    ],
)
def test_what_trains_on_vit_b_16(name, rank, expected):
    assert trained_on_vit_b_16(name, rank=rank) == expected


def test_weights_that_are_no_squares_are_refused_in_a_line():
    odd = type("Odd", (ToyDecoder,), {"hidden_width": lambda self, model: 24})()
    with pytest.raises(UserError, match=r"fact: it cuts weights into squares of the width 24, and a layer is of 32"):
        registry.methods.get("fact_tt")().apply(odd, odd.build())
