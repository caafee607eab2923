"""Attention that a table describes by its form: the prompt's term against a float64 reference, at non-zero gates."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from support.form_models import HOOKED, INTERFACE
from support.form_references import reference
from support.model_zoo import randomise_prompts
from zipeft.splices import attach, detach, gated_prompts
from zipeft.splices.transformers_attention import OTHERS
from zipeft.splices.transformers_forms import TransformersHookedSplice
from zipeft.splices.vision_forms import VisionHookedSplice

MODELS = INTERFACE | HOOKED
EACH = pytest.mark.parametrize("name", MODELS)


def hosts(model):
    return [module for module in model.modules() if hasattr(module, "zero_gated_prompt")]


def first(result):
    return result if isinstance(result, torch.Tensor) else result[0]


@EACH
def test_the_term_is_that_of_the_paper(name):
    """At the same input, a layer with its gates open and one with its gates shut differ by the reference's term."""
    model = MODELS[name].frozen()
    frozen = MODELS[name].run(model)
    prompts = attach(model, length=3, gate_activation="none")
    with torch.no_grad():
        assert torch.equal(MODELS[name].run(model), frozen), "at zero gate"
    randomise_prompts(prompts)
    calls = []

    def keep(layer, args, kwargs, result):
        calls.append((layer, args, kwargs, first(result)))

    handles = [layer.register_forward_hook(keep, with_kwargs=True) for layer in hosts(model)]
    loss = (MODELS[name].run(model) * torch.linspace(-1, 1, frozen.numel()).view_as(frozen)).sum()
    for handle in handles:
        handle.remove()
    assert len({id(layer) for layer, *_ in calls}) == len(prompts) >= 1
    loss.backward()
    for prompt in prompts:
        assert (prompt.prompt.grad != 0).any()
        assert (prompt.gate.grad != 0).all()
    for layer, args, kwargs, opened in calls:
        prompt = layer.zero_gated_prompt
        gate = prompt.gate.detach().double()
        with torch.no_grad():
            prompt.gate.zero_()
            shut = first(layer(*args, **kwargs))
            prompt.gate.copy_(gate)
            call = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
            hidden = next(iter(call.values()))
            expected = of_reference(layer, hidden, opened, (prompt.prompt, gate, call))
        assert expected.abs().max() > 0.05
        assert (opened - shut - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max())


CHANNELS_FIRST = ("visformer", "maxxvit.Attention2d", "fastvit")


def of_reference(layer, hidden, opened, inputs):
    """Return the reference's term as the layer's output lies: channels before or behind places, others beside them."""
    first = any(name in f"{type(layer).__module__}.{type(layer).__name__}" for name in CHANNELS_FIRST)
    expected = reference(layer)(hidden.movedim(1, -1) if first else hidden, *inputs)
    if first:
        return expected.transpose(1, 2).reshape_as(opened)
    others = opened.shape[-1] - expected.shape[-1]  # ConvBERT's convolutions
    return nn.functional.pad(expected, (0, others)).reshape_as(opened)


@pytest.mark.parametrize(
    ("name", "targets"),
    [("bloom", ["query_key_value", "dense"]), ("mpnet", ["q", "k", "o"]), ("timm swin", ["qkv", "attn.proj"])],
)
def test_lora_may_come_before_prompts_or_behind(name, targets):
    """The projections are hooked as they are at each forward, with what peft has put around them."""
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False)
    outputs = []
    for order in (("lora", "prompts"), ("prompts", "lora")):
        model = MODELS[name].frozen()
        for step in order:
            torch.manual_seed(1)
            if step == "lora":
                peft.inject_adapter_in_model(config, model)
            else:
                randomise_prompts(attach(model, length=3))
        with torch.no_grad():
            outputs.append(MODELS[name].run(model.double()))
            for prompt in gated_prompts(model):
                prompt.gate.zero_()
            assert not torch.allclose(MODELS[name].run(model), outputs[-1], atol=1e-3)
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-6)


@EACH
@pytest.mark.slow
def test_a_model_comes_back_unchanged(name):
    model = MODELS[name].frozen()
    frozen = MODELS[name].run(model)
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        assert not torch.equal(MODELS[name].run(model), frozen)
    detach(model)
    assert torch.equal(MODELS[name].run(model), frozen)


@pytest.mark.slow
def test_each_form_of_the_tables_has_a_model():
    joined = set()
    for name in MODELS:
        model = MODELS[name].build()
        joined |= {f"{type(layer).__module__}.{type(layer).__name__}" for layer in model.modules()}
    tables = [OTHERS, TransformersHookedSplice.forms, VisionHookedSplice.forms]
    missing = [key for table in tables for key in table if not any(same(key, name) for name in joined)]
    assert missing == []


def same(key, name):
    library, family, kind = key.split(".")
    return name.startswith(library) and f"{family}." in name and name.endswith(f".{kind}")
