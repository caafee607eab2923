"""Gated layers of real models, with gates away from zero, against the float64 reference of the paper's formula."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import Attention, AttentionRope
from timm.models.eva import EvaAttention
from torch import nn

from support.method_cases import slow
from support.model_zoo import ZOO, randomise, randomise_prompts
from support.reference import (
    causal_mask,
    of_timm,
    rotate,
    two_softmaxes,
)
from support.zoo_references import LAYERS, recorded
from zipeft.splices import attach, conditioned

TOLERANCE = 1e-5
PAPER = {
    "paper": {"length": 7},
    "one_token": {"length": 1},
    "one_gate": {"length": 7, "gate": "layer"},
    "no_activation": {"length": 3, "gate_activation": "none"},
    "one_gate_no_activation": {"length": 1, "gate": "layer", "gate_activation": "none"},
}
OTHERS = {
    "gate_of_channels": {"length": 3, "gate": "channel"},
    "key_value": {"length": 3, "prompt_form": "key_value"},
    "key_value_of_channels": {"length": 1, "prompt_form": "key_value", "gate": "channel", "gate_activation": "none"},
}


def assert_as_reference(name, model, condition=None):
    """Compare every joined layer of a model with its reference; the prompts are given values first."""
    layers = [row for row in LAYERS[name](model) if hasattr(row[0], "zero_gated_prompt")]
    records = recorded([attention for attention, _, _ in layers], lambda: ZOO[name].run(model))
    assert len(records) >= 2
    for (attention, reference, mask), (hidden, result) in zip(layers, records, strict=True):
        expected = reference(hidden, attention.zero_gated_prompt, mask, condition=condition)
        assert (result - expected).abs().max() <= TOLERANCE


EACH_KERNEL = pytest.mark.parametrize(("name", "kernel"), [(n, k) for n, entry in ZOO.items() for k in entry.kernels])


@EACH_KERNEL
@pytest.mark.parametrize("setting", [*PAPER, *slow(OTHERS)])
def test_equals_the_two_softmaxes_of_the_paper(name, kernel, setting):
    model = ZOO[name].frozen(kernel)
    randomise_prompts(attach(model, **{**PAPER, **OTHERS}[setting]))
    assert_as_reference(name, model)


@EACH_KERNEL
def test_equals_the_reference_without_gradients(name, kernel):
    """Where gradients are off, keys and values come from the cache, and PyTorch would take its inference path."""
    model = ZOO[name].frozen(kernel)
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        ZOO[name].run(model)
        assert_as_reference(name, model)


@pytest.mark.parametrize("gate_init", ["zero", "random"])
@pytest.mark.parametrize("name", ZOO)
def test_equals_the_reference_at_the_start(name, gate_init):
    model = ZOO[name].frozen()
    prompts = attach(model, gate_init=gate_init)
    assert all((prompt.gate == 0).all() == (gate_init == "zero") for prompt in prompts)
    assert_as_reference(name, model)


@EACH_KERNEL
@pytest.mark.parametrize("length", [1, 7])
def test_a_condition_of_each_example_is_added_to_each_prompt(name, kernel, length):
    model = ZOO[name].frozen(kernel)
    part = model.visual if name == "open_clip" else model  # its towers differ in width
    prompts = randomise_prompts(attach(part, length=length))
    condition = torch.randn(2, prompts[0].prompt.shape[1])
    with conditioned(part, condition):
        assert_as_reference(name, model, condition)
    assert_as_reference(name, model)


def test_the_reference_tells_a_term_from_none():
    """The comparisons above would be idle if the gated term were as small as their tolerance."""
    for name, entry in ZOO.items():
        model = entry.frozen()
        before = recorded([row[0] for row in LAYERS[name](model)], lambda: entry.run(model))  # noqa: B023
        randomise_prompts(attach(model, length=3))
        for (attention, reference, mask), (hidden, result) in zip(LAYERS[name](model), before, strict=True):
            with_term = reference(hidden, attention.zero_gated_prompt, mask)
            assert (with_term - result).abs().max() > 0.05, name


def test_at_zero_gate_the_reference_is_plain_attention():
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 5, 4, 8, dtype=torch.float64) for _ in range(3))
    prompt = torch.randn(2, 3, 4, 8, dtype=torch.float64)
    out = two_softmaxes(query, (prompt, key), (prompt, value), torch.zeros(4).double(), causal_mask(5))
    plain = nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in (query, key, value)), is_causal=True, scale=1.0
    )
    torch.testing.assert_close(out, plain.transpose(1, 2).flatten(2))


def test_the_reference_rotates_as_llama_does():
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    model = ZOO["llama"].frozen()
    x = torch.randn(2, 7, 4, 12)
    cos, sin = LlamaRotaryEmbedding(model.config)(x, torch.arange(7)[None])
    rotated, _ = apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), cos, sin)
    torch.testing.assert_close(rotate(x.double(), 10000.0).float(), rotated.transpose(1, 2))


TIMM = {
    "plain": {},
    "bias": {"qkv_bias": True},
    "qk_norm": {"qkv_bias": True, "qk_norm": True, "norm_layer": nn.LayerNorm},
    "scale_norm": {"qkv_bias": True, "scale_norm": True, "norm_layer": nn.LayerNorm},
    "all": {"qkv_bias": True, "qk_norm": True, "scale_norm": True, "norm_layer": nn.LayerNorm, "gated": True},
    "head_dim": {"attn_head_dim": 12, "qkv_bias": True},
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("masked", [None, "float", "bool", "causal"])
@pytest.mark.parametrize("setting", TIMM)
def test_timm_attention(setting, fused, masked):
    options = {k: v for k, v in TIMM[setting].items() if k in Attention.__init__.__annotations__}
    if options != TIMM[setting]:
        pytest.skip(f"timm {timm.__version__} has no such setting")
    torch.manual_seed(0)
    attention = randomise(Attention(32, num_heads=4, **options)).eval()
    attention.fused_attn = fused
    x = torch.randn(2, 6, 32)
    allowed = torch.rand(2, 1, 6, 6) < 0.6
    allowed |= torch.eye(6, dtype=torch.bool)
    additive = torch.randn(2, 1, 6, 6)
    masks = {
        "float": (additive, additive),
        "bool": (allowed, torch.zeros(2, 1, 6, 6).masked_fill(~allowed, -torch.inf)),
    }
    given, mask = masks.get(masked, (None, causal_mask(6) if masked == "causal" else None))
    (prompt,) = randomise_prompts(attach(attention, length=5))
    result = attention(x, attn_mask=given, is_causal=True) if masked == "causal" else attention(x, attn_mask=given)
    assert (result - of_timm(attention)(x, prompt, mask)).abs().max() <= TOLERANCE


ROPE = {
    "dinov3": (AttentionRope, {"qkv_bias": False, "rotate_half": True, "num_prefix_tokens": 3}),
    "norms": (AttentionRope, {"qk_norm": True, "scale_norm": True, "norm_layer": nn.LayerNorm}),
    "gated": (AttentionRope, {"gated": True}),
    "grouped": (AttentionRope, {"qkv_fused": False, "num_kv_heads": 2}),
    "head_dim": (AttentionRope, {"attn_head_dim": 12, "num_prefix_tokens": 0}),
    "fused_eva": (EvaAttention, {"scale_norm": False}),
    "separate_bias": (EvaAttention, {"scale_norm": False, "qkv_bias_separate": True}),
    "unfused_eva": (EvaAttention, {"qkv_fused": False, "qk_norm": True, "norm_layer": nn.LayerNorm}),
}


@pytest.mark.parametrize("rotated", [True, False])
@pytest.mark.parametrize("setting", ROPE)
def test_timm_attention_with_a_rotary_embedding(setting, rotated):
    kind, options = ROPE[setting]
    if not options.keys() <= kind.__init__.__annotations__.keys():
        pytest.skip(f"timm {timm.__version__} has no such setting")
    torch.manual_seed(0)
    attention = randomise(kind(32, num_heads=4, **options)).eval()
    angle = torch.rand(7 - attention.num_prefix_tokens, attention.head_dim // 2) * 6
    angle = torch.cat([angle, angle], -1) if attention.rotate_half else angle.repeat_interleave(2, -1)
    angles = torch.cat([angle.sin(), angle.cos()], -1) if rotated else None
    x = torch.randn(2, 7, 32)
    before = attention(x, rope=angles)
    (prompt,) = attach(attention, length=5)
    assert torch.equal(attention(x, rope=angles), before)
    randomise_prompts([prompt])
    expected = of_timm(attention, angles)(x, prompt)
    assert (expected - before).abs().max() > 0.05
    for result in (attention(x, rope=angles), attention(x, angles)):
        assert (result - expected).abs().max() <= TOLERANCE
