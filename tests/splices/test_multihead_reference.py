"""Joined ``nn.MultiheadAttention`` against the float64 reference, and against PyTorch's own result at zero gate."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import nn

from support.model_zoo import ordinary_path, randomise, randomise_prompts, torch_encoder
from support.reference import causal_mask, of_multihead, padding_mask
from zipeft.splices import attach, detach

TOLERANCE = 1e-5
BATCH, QUERIES, KEYS, WIDTH, HEADS = 2, 5, 6, 32, 4
REAL = torch.tensor([[1] * KEYS, [1] * (KEYS - 2) + [0] * 2], dtype=torch.bool)


def boolean(*shape: int) -> torch.Tensor:
    """A mask as PyTorch takes it, True where a query may not look; each query sees the first key."""
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(7)) < 0.4
    mask[..., 0] = False
    return mask


def additive(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, -math.inf)


def masks(name: str, queries: int, keys: int) -> tuple[dict, torch.Tensor | None]:
    """Return what is passed to the layer, and the same as one additive mask for the reference."""
    two, three = boolean(queries, keys), boolean(BATCH * HEADS, queries, keys)
    shifts = torch.randn(queries, keys, generator=torch.Generator().manual_seed(8))
    causal, real = causal_mask(keys), REAL[:, :keys]
    four = additive(three).view(BATCH, HEADS, queries, keys)
    return {
        "none": ({}, None),
        "2d bool": ({"attn_mask": two}, additive(two)),
        "2d float": ({"attn_mask": shifts}, shifts),
        "3d bool": ({"attn_mask": three}, four),
        "3d float": ({"attn_mask": additive(three).float()}, four),
        "padding": ({"key_padding_mask": ~real}, padding_mask(real)),
        "float padding": ({"key_padding_mask": padding_mask(real).float()[:, 0, 0]}, padding_mask(real)),
        "2d bool, padding": ({"attn_mask": two, "key_padding_mask": ~real}, additive(two) + padding_mask(real)),
        "3d bool, padding": ({"attn_mask": three, "key_padding_mask": ~real}, four + padding_mask(real)),
        "causal": ({"attn_mask": causal.float(), "is_causal": True}, causal),
        "causal, padding": (
            {"attn_mask": causal == -math.inf, "is_causal": True, "key_padding_mask": ~real},
            causal + padding_mask(real),
        ),
    }[name]


EVERY_MASK = [
    "none",
    "2d bool",
    "2d float",
    "3d bool",
    "3d float",
    "padding",
    "float padding",
    "2d bool, padding",
    "3d bool, padding",
    "causal",
    "causal, padding",
]
WEIGHTS = {"no weights": (False, True), "mean weights": (True, True), "each head's weights": (True, False)}


def layer(**settings) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    return randomise(nn.MultiheadAttention(WIDTH, HEADS, **settings)).requires_grad_(False).eval()


def inputs(attention: nn.MultiheadAttention, kind: str) -> list[torch.Tensor]:
    """Return queries, keys and values, batch first: one tensor three times over in self-attention."""
    query, key, value = (torch.randn(BATCH, tokens, WIDTH) for tokens in (QUERIES, KEYS, KEYS))
    return {"self": [key] * 3, "memory": [query, key, key], "cross": [query, key, value]}[kind]


def ordered(attention: nn.MultiheadAttention, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Swap batch and tokens where the layer wants tokens first; what was one object stays one."""
    if attention.batch_first:
        return tensors
    swapped = {id(x): x.transpose(0, 1) for x in tensors}
    return [swapped[id(x)] for x in tensors]


def call(attention, tensors, **options):
    """Return (batch, queries, width) and the weights."""
    result, weights = attention(*ordered(attention, tensors), **options)
    return (result if attention.batch_first else result.transpose(0, 1)), weights


def path_of_a_joined_layer(need_weights: bool) -> AbstractContextManager:
    """PyTorch's ordinary path; its own choice where weights are wanted, for there its own forward runs."""
    return nullcontext() if need_weights else ordinary_path()


@pytest.mark.parametrize("wanted", WEIGHTS)
@pytest.mark.parametrize("mask", EVERY_MASK)
@pytest.mark.parametrize("kind", ["self", "memory", "cross"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
def test_multihead_attention(batch_first, kind, mask, wanted):
    """At zero gate it is PyTorch's own result to the last bit; at other gates it is the reference; weights stay."""
    attention = layer(batch_first=batch_first)
    tensors = inputs(attention, kind)
    queries = tensors[0].shape[1]
    if mask.startswith("causal") and queries != KEYS:
        pytest.skip("a causal mask is square")
    given, expected_mask = masks(mask, queries, KEYS)
    given |= dict(zip(("need_weights", "average_attn_weights"), WEIGHTS[wanted], strict=True))
    with path_of_a_joined_layer(given["need_weights"]):
        own, own_weights = call(attention, tensors, **given)

    prompts = attach(attention, length=3)
    result, weights = call(attention, tensors, **given)
    assert torch.equal(result, own)

    randomise_prompts(prompts)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            result, weights = call(attention, tensors, **given)
        expected = of_multihead(attention)(tensors[0], prompts[0], expected_mask, keys=tensors[1], values=tensors[2])
        assert (result - expected).abs().max() <= TOLERANCE
        assert (weights is None) == (own_weights is None)
        assert weights is None or torch.equal(weights, own_weights)


@pytest.mark.parametrize("settings", [{"bias": False}, {"batch_first": True, "bias": False}, {"dropout": 0.5}])
def test_multihead_attention_settings(settings):
    attention = layer(**settings)
    tensors = inputs(attention, "self")
    prompts = randomise_prompts(attach(attention, length=3))
    for need_weights in (True, False):
        result, _ = call(attention, tensors, need_weights=need_weights)
        assert (result - of_multihead(attention)(tensors[0], prompts[0])).abs().max() <= TOLERANCE


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_without_a_batch(batch_first, masked, need_weights):
    attention = layer(batch_first=batch_first)
    query, key = torch.randn(QUERIES, WIDTH), torch.randn(KEYS, WIDTH)
    mask = boolean(QUERIES, KEYS) if masked else None
    with path_of_a_joined_layer(need_weights):
        own, own_weights = attention(query, key, key, attn_mask=mask, need_weights=need_weights)
    prompts = attach(attention, length=3)
    assert torch.equal(attention(query, key, key, attn_mask=mask, need_weights=need_weights)[0], own)
    randomise_prompts(prompts)
    result, weights = attention(query, key, key, attn_mask=mask, need_weights=need_weights)
    expected = of_multihead(attention)(
        query[None], prompts[0], additive(mask) if masked else None, keys=key[None], values=key[None]
    )
    assert result.shape == query.shape
    assert (result - expected[0]).abs().max() <= TOLERANCE
    assert weights is None or torch.equal(weights, own_weights)


@pytest.mark.parametrize("condition_of", [1, BATCH])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_with_a_condition(need_weights, condition_of):
    from zipeft.splices import conditioned

    attention = layer(batch_first=True)
    tensors = inputs(attention, "cross")
    prompts = randomise_prompts(attach(attention, length=3))
    condition = torch.randn(BATCH, WIDTH)[:condition_of]
    with conditioned(attention, condition):
        result, _ = call(attention, tensors, need_weights=need_weights)
    expected = of_multihead(attention)(
        tensors[0], prompts[0], keys=tensors[1], values=tensors[2], condition=condition.expand(BATCH, -1)
    )
    assert (result - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kind", ["self", "memory", "cross"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_bfloat16_at_zero_gate_is_pytorchs_own(batch_first, kind, need_weights):
    attention = layer(batch_first=batch_first).to(torch.bfloat16)
    same = inputs(attention, kind)
    converted = {id(x): x.to(torch.bfloat16) for x in same}
    tensors = [converted[id(x)] for x in same]
    with path_of_a_joined_layer(need_weights):
        own, _ = call(attention, tensors, need_weights=need_weights)
    attach(attention, length=3)
    assert torch.equal(call(attention, tensors, need_weights=need_weights)[0], own)


def test_dropout_draws_as_the_frozen_layer_does():
    """In training mode the prompt's term draws no random numbers, so that the layer's own are as before."""
    attention = layer(batch_first=True, dropout=0.3).train()
    tensors = inputs(attention, "self")
    torch.manual_seed(5)
    own, _ = call(attention, tensors, need_weights=False)
    attach(attention, length=3)
    torch.manual_seed(5)
    assert torch.equal(call(attention, tensors, need_weights=False)[0], own)


def transformer_encoder(norm_first: bool) -> nn.Module:
    torch.manual_seed(0)
    return randomise(torch_encoder(norm_first=norm_first)).requires_grad_(False).eval()


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_an_encoder_layer_does_not_bypass_the_prompt(monkeypatch, norm_first, gradients):
    """PyTorch's fused encoder layer reads the weights past the attention's forward."""
    model = transformer_encoder(norm_first)
    x = torch.randn(BATCH, QUERIES, WIDTH)
    fused = []
    original = torch._transformer_encoder_layer_fwd
    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", lambda *args: (fused.append(1), original(*args))[1])
    with torch.set_grad_enabled(gradients):
        model(x)
        assert fused, "without a prompt PyTorch takes its fused layer"
        prompts = randomise_prompts(attach(model, length=3))
        fused.clear()
        result = model(x)
        assert not fused
        detach(model)
        model(x)
        assert fused
    expected = x.double()
    for block, prompt in zip(copy.deepcopy(model).double().layers, prompts, strict=True):
        expected = block_reference(block, expected, prompt, norm_first)
    assert (result - expected).abs().max() <= 2 * TOLERANCE


def block_reference(block: nn.Module, x: torch.Tensor, prompt: nn.Module, norm_first: bool) -> torch.Tensor:
    def mlp(x: torch.Tensor) -> torch.Tensor:
        return block.linear2(block.linear1(x).relu())

    attention = of_multihead(block.self_attn)
    if norm_first:
        x = x + attention(block.norm1(x), prompt)
        return x + mlp(block.norm2(x))
    x = block.norm1(x + attention(x, prompt))
    return block.norm2(x + mlp(x))


@pytest.mark.parametrize("gradients", [True, False])
def test_an_encoder_with_padding_keeps_its_prompts(gradients):
    """PyTorch would pack padded batches into nested tensors for its fused layer."""
    torch.manual_seed(0)
    encoder_layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 48, dropout=0.0, batch_first=True)
    model = randomise(nn.TransformerEncoder(encoder_layer, 2)).requires_grad_(False).eval()
    x = torch.randn(BATCH, KEYS, WIDTH)
    prompts = attach(model, length=3)
    for gates in ("zero", "random"):
        if gates == "random":
            randomise_prompts(prompts)
        with torch.set_grad_enabled(gradients):
            result = model(x, src_key_padding_mask=~REAL)
        alone = [model.train()(x[i : i + 1, : REAL[i].sum()]) for i in range(BATCH)]
        model.eval()
        for i, expected in enumerate(alone):
            assert (result[i, REAL[i]] - expected[0]).abs().max() <= TOLERANCE


def test_torchvisions_vit_does_not_bypass_the_prompt(monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(16, 4, 2, HEADS, WIDTH, 48, num_classes=10)
    model = randomise(model).requires_grad_(False).eval()
    x = torch.randn(BATCH, 3, 16, 16)
    native = []
    original = torch._native_multi_head_attention
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *args: (native.append(1), original(*args))[1])
    with torch.no_grad():
        frozen = model(x)
        assert native, "without a prompt PyTorch takes its inference kernel"
        prompts = randomise_prompts(attach(model, length=3))
        native.clear()
        inference = model(x)
        assert not native
    training = model.train()(x)
    torch.testing.assert_close(inference, training)
    assert (inference - frozen).abs().max() > 0.01
    attentions = [block.self_attention for block in model.encoder.layers]
    seen = {}
    for attention in attentions:
        attention.register_forward_hook(lambda m, args, out: seen.__setitem__(m, (args[0], out[0])))
    with torch.no_grad():
        model.eval()(x)
    for attention, prompt in zip(attentions, prompts, strict=True):
        hidden, result = seen[attention]
        assert (result - of_multihead(attention)(hidden, prompt)).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "settings", [{"kdim": 16, "vdim": 24}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=lambda s: next(iter(s))
)
def test_a_layer_that_no_splice_knows_is_refused(settings):
    from zipeft.errors import UserError

    with pytest.raises(UserError, match="no attention layer"):
        attach(nn.MultiheadAttention(WIDTH, HEADS, **settings))
