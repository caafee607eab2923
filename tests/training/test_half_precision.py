"""Products in half precision on a CPU without arithmetic for it: as fast as float32, and as good as the native ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zipeft.training import half_precision

CPU = torch.device("cpu")


class Mixer(nn.Module):
    """A patch convolution, attention and linear layers."""

    def __init__(self):
        super().__init__()
        self.patches, self.inner, self.outer = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2).unsqueeze(1)
        mixed = functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.outer(self.inner(mixed) @ torch.ones(16, 16, device=images.device))


class ProductsSeen(TorchDispatchMode):
    """Keeps the dtypes that products are made in."""

    def __init__(self):
        super().__init__()
        self.dtypes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in half_precision.PRODUCTS:
            dtypes = {x.dtype for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
            self.dtypes.setdefault(func, set()).update(dtypes)
        return func(*args, **(kwargs or {}))


def step(dtype, inference=False):
    """Return the output and the gradients of a step under autocast."""
    torch.manual_seed(0)
    model, images = Mixer(), torch.randn(2, 3, 16, 16)
    with torch.autocast("cpu", dtype):
        if inference:
            with torch.inference_mode():
                return [model(images)]
        output = model(images)
    output.float().square().mean().backward()
    return [output, *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize("inference", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize("dtype", half_precision.HALVES, ids=str)
def test_products_in_float32_equal_native_ones_to_rounding(monkeypatch, dtype, inference):
    monkeypatch.setattr(half_precision, "_is_slow", lambda kind: kind == dtype)
    native = step(dtype, inference)
    with ProductsSeen() as seen, half_precision.products_in_float32(CPU):
        ours = step(dtype, inference)
    assert seen.dtypes
    assert all(dtypes == {torch.float32} for dtypes in seen.dtypes.values())
    for own, expected in zip(ours, native, strict=True):
        assert own.dtype == expected.dtype
        distance = (own.double() - expected.double()).norm() / expected.double().norm()
        assert distance < 4 * torch.finfo(dtype).eps


def test_other_products_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(half_precision, "_is_slow", lambda kind: kind == torch.float16)
    native = step(torch.bfloat16)
    with ProductsSeen() as seen, half_precision.products_in_float32(CPU):
        ours = step(torch.bfloat16)
    assert {torch.bfloat16} in seen.dtypes.values()
    assert all(torch.equal(own, expected) for own, expected in zip(ours, native, strict=True))


def test_where_the_device_has_the_arithmetic_nothing_is_put_in_between(monkeypatch):
    monkeypatch.setattr(half_precision, "_is_slow", lambda kind: False)
    assert not isinstance(half_precision.products_in_float32(CPU), TorchDispatchMode)
    monkeypatch.setattr(half_precision, "_is_slow", lambda kind: True)
    assert not isinstance(half_precision.products_in_float32(torch.device("cuda")), TorchDispatchMode)
