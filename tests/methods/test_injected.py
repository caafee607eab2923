"""Methods of peft, of which the table has a line each: what trains, that it is peft's, that it comes back and off."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass

import pytest
import torch
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from support.injected import DECODER, INJECTED, NO_MERGE, OFFERED, applied, frozen, trainable
from support.method_cases import slow
from support.toys import WORDS, ToyCLIP, ToyDecoder, ToyEncoder
from zipeft import registry
from zipeft.errors import UserError
from zipeft.methods.injected import Injected
from zipeft.modules.injected_layers import detach, merge

EACH = pytest.mark.parametrize("name", OFFERED)
SOME = ("dora", "vera", "oft", "fourierft", "lokr", "ia3", "shira")
"""One of each family, for what takes long."""
EACH_SLOWLY = pytest.mark.parametrize("name", [*SOME, *slow(name for name in OFFERED if name not in SOME)])


@dataclass(frozen=True)
class WideDecoder(ToyDecoder):
    """A LLaMA of one layer, wide enough for blocks of 64 numbers that share a scale."""

    def build(self) -> nn.Module:
        size = {"vocab_size": len(WORDS), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return LlamaForCausalLM(LlamaConfig(**size, intermediate_size=64, initializer_range=0.2)).eval()


def features(model, backbone=DECODER):
    return backbone.features(model, backbone.random_batch(4, image_size=16, length=8))


def learnt(model, backbone=DECODER, steps=8, rate=None):
    """The losses of some steps towards fixed random features; the model is left as it is after them."""
    parameters = list(trainable(model).values())
    optimizer = torch.optim.AdamW(parameters, lr=rate or 1e-3)
    target = torch.randn(4, backbone.width(model), generator=torch.Generator().manual_seed(1))
    losses, moved = [], set()
    for _ in range(steps):
        loss = (features(model.train(), backbone).float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        moved |= {key for key, p in trainable(model).items() if p.grad is not None and p.grad.abs().max() > 0}
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses, moved


def rate_of(name):
    return registry.methods.get(name)().learning_rate


def test_the_table_is_registered_line_for_line_and_each_line_is_a_class_of_its_own():
    import zipeft.methods.injected as table

    lines = [cls for cls in vars(table).values() if isinstance(cls, type) and issubclass(cls, Injected)]
    lines.remove(Injected)
    assert {cls.called: cls for cls in lines} == {name: registry.methods.get(name) for name in INJECTED}
    assert len(lines) == len(INJECTED)
    for name in INJECTED:
        method = registry.methods.get(name)()
        assert copy.deepcopy(method) == method
        assert getattr(sys.modules[type(method).__module__], type(method).__qualname__) is type(
            method
        )  # as pickle asks
        assert not method.by_default


def test_what_runs_by_default_is_what_it_was_before_them():
    own = ["adaptformer", "bitfit", "coop", "deep_prompt", "full", "linear", "lora", "prefix", "prompt", "untuned"]
    gated = [
        "zero_gated",
        "zero_gated_early",
        "zero_gated_image",
        "zero_gated_random",
        "zero_gated_text",
        "zero_gated_v2",
    ]
    default = registry.methods.by_default()  # third parties add theirs
    assert [name for name in default if registry.methods.get(name).__module__.startswith("zipeft.")] == own + gated


@EACH
def test_it_learns_all_that_it_trains_in_float32_and_nothing_else(name):
    model = applied(name)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    start = features(model).detach()
    exact = torch.equal(start, features(frozen().model))
    assert exact == registry.methods.get(name).starts_at_frozen_model
    losses, moved = learnt(model, rate=rate_of(name))
    assert losses[-1] < losses[0] - 1e-3
    assert moved == set(trainable(model))
    assert frozen().changed() == ""


@EACH_SLOWLY
def test_what_is_saved_comes_back_under_any_seed_and_is_merged_where_it_can_be(name):
    model = applied(name)
    learnt(model, rate=rate_of(name))
    again = applied(name, seed=7)
    assert trainable(again).keys() == trainable(model).keys()
    with torch.no_grad():
        for key, parameter in trainable(again).items():
            parameter.copy_(trainable(model)[key])
        after = features(model)
        assert (after - features(frozen().model)).abs().max() > 1e-3
        assert torch.equal(features(again), after)
        if name in NO_MERGE:
            with pytest.raises(UserError, match=NO_MERGE[name]):
                merge(again)
            return
        merge(again)
        assert [key for key, _ in again.named_parameters()] == [key for key, _ in frozen().model.named_parameters()]
        torch.testing.assert_close(features(again), after, rtol=0, atol=1e-4)
    assert frozen().changed() == ""


@EACH_SLOWLY
def test_detached_it_is_the_untouched_model(name):
    model = applied(name)
    learnt(model, steps=2, rate=rate_of(name))
    detach(model)
    expected = frozen().model.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert vars(model).keys() == vars(frozen().model).keys()
    assert torch.equal(features(model), features(frozen().model))


@EACH_SLOWLY
def test_peft_used_directly_has_the_same_losses(name):
    ours = applied(name)
    method = registry.methods.get(name)()
    model = DECODER.build().requires_grad_(False)
    config = method.config(DECODER, model)
    torch.manual_seed(0)
    theirs = get_peft_model(model, config).base_model.model.eval()
    torch.manual_seed(2)  # for what draws while it trains
    losses, _ = learnt(ours, rate=method.learning_rate)
    torch.manual_seed(2)
    assert losses == learnt(theirs, rate=method.learning_rate)[0]
    assert trainable(ours).keys() == trainable(theirs).keys()


@pytest.mark.parametrize("name", ["dora", "vera", "oft"])
def test_attention_of_pytorch_itself_is_changed_at_its_projections_and_comes_back(name):
    backbone = ToyCLIP()
    own = frozen(backbone).model
    model = applied(name, backbone)
    changed = {key.partition(".attn.")[2].partition(".")[0] for key in trainable(model)}
    assert changed == {"in_proj", "out_proj"}
    losses, moved = learnt(model, backbone, rate=rate_of(name))
    assert losses[-1] < losses[0] - 1e-3
    assert {key for key in moved if ".attn.in_proj" in key}
    merged = copy.deepcopy(model)
    merge(merged)
    torch.testing.assert_close(features(merged, backbone), features(model, backbone), rtol=0, atol=1e-4)
    detach(model)
    assert [key for key, _ in model.named_parameters()] == [key for key, _ in own.named_parameters()]
    assert torch.equal(features(model, backbone), features(own, backbone))
    assert {type(part) for part in model.modules()} == {type(part) for part in own.modules()}
    assert frozen(backbone).changed() == ""


def test_ia3_scales_keys_values_and_what_enters_the_last_layer():
    names = {key.partition(".ia3_l")[0]: p.numel() for key, p in trainable(applied("ia3")).items()}
    assert {key.rpartition(".")[2] for key in names} == {"k_proj", "v_proj", "down_proj"}
    assert {size for key, size in names.items() if key.endswith("down_proj")} == {64}
    encoder = {key.partition(".ia3_l")[0] for key in trainable(applied("ia3", ToyEncoder()))}
    assert not any("attention.output" in key for key in encoder)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "vera",
            {"targets": ("nowhere",)},
            r"^vera: the model has no layers nowhere: name linear layers with --set vera",
        ),
        ("oft", {"targets": ("input_layernorm",)}, r"^oft: it changes linear layers, and .*input_layernorm is none"),
        ("ln_tuning", {"targets": ("q_proj",)}, "^ln_tuning: the model's blocks have no normalisation layers"),
        ("vblora", {"vector_length": 7}, r"vblora: .*divisible by .vector_length. 7"),
        ("fourierft", {"n_frequency": 2000}, r"fourierft: .*n_frequency"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(name, settings, message):
    with pytest.raises(UserError, match=message) as error:
        applied(name, **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "settings"), [("dora", {"rank": 0}), ("vera", {"dropout": 1.0}), ("fourierft", {"scaling": 0.0})]
)
def test_settings_that_make_no_sense_are_refused(name, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        registry.methods.get(name)(**settings)


def test_without_weights_nothing_can_start_from_them():
    with torch.device("meta"):
        model = DECODER.build().requires_grad_(False)
        with pytest.raises(UserError, match="shira: it starts from values of the weights, and this model has none"):
            registry.methods.get("shira")().apply(DECODER, model)


def test_a_method_that_peft_does_not_offer_says_so(monkeypatch):
    monkeypatch.delitem(PEFT_TYPE_TO_CONFIG_MAPPING, "LOKR")
    with pytest.raises(UserError, match="lokr needs a newer peft than the one that is installed: pip install -U peft"):
        applied("lokr")


@EACH_SLOWLY
def test_weights_in_bf16_are_trained_beside_in_float32(name):
    backbone = ToyDecoder(dtype="bf16")
    model = applied(name, backbone)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    losses, _ = learnt(model, backbone, rate=rate_of(name))
    assert losses[-1] < losses[0] - 1e-3
    assert frozen(backbone).changed() == ""


@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_packed_weights_are_refused_in_a_line_by_what_reads_them(dtype):
    refusing = [name for name in INJECTED if dtype not in registry.methods.get(name).quantised]
    assert {"int8": 15, "nf4": 18}[dtype] == len(refusing)
    for name in refusing:
        with pytest.raises(UserError, match=f"{name} reads weights, and {dtype} ones are packed: take dtype=bf16"):
            registry.methods.get(name)().apply(ToyDecoder(dtype=dtype), nn.Module())


PACKED = [(name, dtype) for name in OFFERED for dtype in registry.methods.get(name).quantised]


@pytest.mark.parametrize(("name", "dtype"), [("oft", "nf4"), *slow(pair for pair in PACKED if pair != ("oft", "nf4"))])
def test_packed_weights_are_trained_beside_by_the_others(name, dtype):
    pytest.importorskip("bitsandbytes")
    backbone = WideDecoder(dtype=dtype)
    model, exact = applied(name, backbone), applied(name, WideDecoder(dtype="bf16"))
    near = features(exact, WideDecoder(dtype="bf16")).float()
    assert ((features(model, backbone) - near).norm() / near.norm()).item() < {"int8": 0.05, "nf4": 0.3}[dtype]
    losses, _ = learnt(model, backbone, rate=rate_of(name))
    assert losses[-1] < losses[0] - 1e-3
    assert frozen(backbone).changed() == ""
