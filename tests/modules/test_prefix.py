"""Learnt keys and values in the attention of real models, against the formula, against peft, and as a method."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from support.model_zoo import ENCODER, ZOO, llama, randomise, roberta, snapshot, text, use_kernel
from support.reference import linear, rotate, softmax
from support.zoo_references import LAYERS, recorded
from zipeft.errors import UserError
from zipeft.methods.prefix import Prefix
from zipeft.modules import prefix
from zipeft.splices import PrefixSplice, attach, detach, gated_prompts

LENGTH = 3
NAMES = [name for name in ZOO if len(ZOO[name].kernels) == 2 and not name.startswith("timm")]
EACH = pytest.mark.parametrize("name", NAMES)
KERNELS = pytest.mark.parametrize("kernel", ["sdpa", "eager"])


def join(model, seed=1, **settings):
    """Join prefixes of which every number matters."""
    torch.manual_seed(seed)
    return attach(model, splices=[PrefixSplice], **{"length": LENGTH, "std": 1.0} | settings)


def prefixes(model):
    return [module for module in model.modules() if isinstance(module, prefix.Prefix)]


def loss_of(output):
    return (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum()


def one_softmax(layer, hidden, learnt, mask):
    """Return a layer's result in float64, its scores one by one: the learnt keys come first, and no mask hides them."""
    hidden = hidden.double()
    q = rotate(layer.heads(hidden, layer.query, layer.query_norm), layer.rope_theta) * layer.scale
    k = rotate(layer.heads(hidden, layer.key, layer.key_norm), layer.rope_theta)
    v = layer.heads(hidden, layer.value)
    batch, tokens, heads, _ = q.shape
    mask = torch.zeros(1, 1, 1, 1) if mask is None else mask
    mask = mask.double().expand(batch, heads, tokens, tokens)
    out = torch.empty_like(q)
    for b in range(batch):
        for h in range(heads):
            shared = h // (heads // k.shape[2])
            key = torch.cat([learnt.key[shared].double(), k[b, :, shared]])
            value = torch.cat([learnt.value[shared].double(), v[b, :, shared]])
            for t in range(tokens):
                weights = softmax(key @ q[b, t, h] + functional.pad(mask[b, h, t], (LENGTH, 0)))
                out[b, t, h] = weights @ value
    return linear(layer.before_output(out.flatten(2), hidden), layer.output)


@EACH
@KERNELS
@pytest.mark.parametrize("padded", [True, False], ids=["padded", "full"])
def test_equals_one_softmax_over_learnt_and_own_keys(name, kernel, padded):
    """With masks for padding, causality and windows, with grouped queries, and where a kernel is given no mask."""
    model, entry = ZOO[name].frozen(kernel), ZOO[name]
    join(model)
    layers = list(LAYERS[name](model))
    inputs = entry.inputs()
    if not padded and "attention_mask" in inputs:
        inputs |= text(padded=0)
        # The first example of the standard inputs has no padding: its mask is everyone's now.
        layers = [(attention, layer, None if mask is None else mask[:1]) for attention, layer, mask in layers]
    with torch.no_grad():
        records = recorded([attention for attention, *_ in layers], lambda: entry.output(model, inputs))
        for (attention, layer, mask), (hidden, result) in zip(layers, records, strict=True):
            expected = one_softmax(layer, hidden, attention.prefix, mask)
            assert (result - expected).abs().max() <= 1e-5
            attention.prefix.value.zero_()
            assert (result - one_softmax(layer, hidden, attention.prefix, mask)).abs().max() > 0.05


def test_without_a_mask_the_explicit_kernel_hides_nothing():
    """Not even of a layer that is causal elsewhere: that is how transformers has it."""
    model = ZOO["llama"].frozen("eager")
    join(model)
    attention, layer, _ = next(LAYERS["llama"](model))
    hidden = torch.randn(2, 7, 32)
    rotations = model.model.rotary_emb(hidden, torch.arange(7)[None])
    result, _ = attention(hidden, position_embeddings=rotations, attention_mask=None)
    assert (result - one_softmax(layer, hidden, attention.prefix, None)).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (torch.tensor([[True, False]]), torch.tensor([[True, True, True, False]])),
        (torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.0, 0.0, 0.0, -torch.inf]])),
    ],
)
def test_a_widened_mask_shows_the_prefix(mask, expected):
    widened = prefix.widened(mask, 2)
    assert widened.dtype == mask.dtype
    assert torch.equal(widened, expected)


@KERNELS
@pytest.mark.parametrize("name", ["bert", "roberta", "llama"])
def test_a_mask_of_any_form_is_the_same_mask(name, kernel):
    """Of transformers' own making or given whole, for each example or one for the batch."""
    model = ZOO[name].frozen(kernel)
    join(model)
    inputs = text()
    ids = inputs["input_ids"][1:].expand(2, -1)
    order = torch.ones(7, 7, dtype=torch.bool)
    allowed = (order.tril() if name == "llama" else order) & inputs["attention_mask"][1:, None, None].bool()
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    expected = model(input_ids=ids, attention_mask=inputs["attention_mask"][1:].expand(2, -1)).logits
    for mask in (additive, additive.expand(2, -1, -1, -1), *([allowed] if kernel == "sdpa" else [])):
        result = model(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(result[:, :5], expected[:, :5], atol=1e-5, rtol=1e-5)


def peft_model(base, task):
    peft = pytest.importorskip("peft")
    torch.manual_seed(2)
    return peft.get_peft_model(base, peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=LENGTH)).train()


PEFT = {
    "llama": (lambda: llama(head_dim=8), "CAUSAL_LM", lambda model, inputs: model(**inputs).logits),
    "roberta": (
        lambda: roberta().base_model,
        "FEATURE_EXTRACTION",
        lambda model, inputs: model(**inputs).last_hidden_state,
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", PEFT)
def test_equals_pefts_prefix_tuning(name):
    """Output and gradients. To peft the prefix is a cache, which shifts the tokens' positions by its length."""
    build, task, output = PEFT[name]
    torch.manual_seed(0)
    ours = randomise(build()).requires_grad_(False).eval()
    theirs = peft_model(copy.deepcopy(ours), task)
    learnt = theirs.prompt_encoder["default"].embedding.weight
    joined = join(ours)
    with torch.no_grad():
        values = learnt.view(LENGTH, 2 * len(joined), *joined[0].key[:, 0].shape).permute(1, 2, 0, 3)
        for i, part in enumerate(joined):
            part.key.copy_(values[2 * i])
            part.value.copy_(values[2 * i + 1])
    inputs = text()
    real = inputs["attention_mask"].bool()
    first = 0 if name == "llama" else 2  # RoBERTa's positions begin behind its padding id
    positions = torch.arange(7).expand(2, -1) + first + LENGTH
    a, b = output(ours, inputs | {"position_ids": positions})[real], output(theirs, inputs)[real]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    loss_of(a).backward()
    loss_of(b).backward()
    gradient = torch.stack([g for part in joined for g in (part.key.grad, part.value.grad)])
    theirs = learnt.grad.view(LENGTH, 2 * len(joined), *joined[0].key[:, 0].shape).permute(1, 2, 0, 3)
    torch.testing.assert_close(gradient, theirs, atol=1e-4, rtol=1e-4)
    assert (gradient.abs() > 1e-3).float().mean() > 0.5


@EACH
def test_every_number_of_every_prefix_learns_and_nothing_else_does(name):
    model = ZOO[name].frozen()
    joined = join(model, std=0.02)
    parameters = [parameter for part in joined for parameter in part.parameters()]
    assert [parameter for parameter in model.parameters() if parameter.requires_grad] == parameters
    loss_of(ZOO[name].run(model)).backward()
    assert all((parameter.grad != 0).all() for parameter in parameters)


@KERNELS
@pytest.mark.parametrize("name", ["roberta", "bert", "llama", "mistral", "gemma3"])
def test_a_padded_batch_is_each_sentence_alone(name, kernel):
    model = ZOO[name].frozen(kernel)
    join(model)
    inputs = text(batch=3, padded=3)
    together = model(**inputs).logits
    for i, count in enumerate(inputs["attention_mask"].sum(1)):
        alone = model(**{key: x[i : i + 1, :count] for key, x in inputs.items()}).logits
        torch.testing.assert_close(together[i, :count], alone[0], atol=1e-5, rtol=1e-5)


@EACH
def test_a_bfloat16_model_learns_a_float32_prefix(name):
    model, full = ZOO[name].frozen(dtype=torch.bfloat16), ZOO[name].frozen()
    joined = join(model)
    join(full)
    output = ZOO[name].run(model)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), ZOO[name].run(full), atol=0.3, rtol=0.1)
    loss_of(output).backward()
    assert {x.dtype for part in joined for p in part.parameters() for x in (p, p.grad)} == {torch.float32}


@EACH
@KERNELS
def test_detach_gives_the_model_back(name, kernel):
    entry = ZOO[name]
    model = entry.frozen(kernel)
    before, output = snapshot(model), entry.run(model)
    join(model)
    assert not torch.allclose(entry.run(model), output, atol=1e-3)
    assert gated_prompts(model) == []
    detach(model)
    assert snapshot(model) == before
    assert torch.equal(entry.run(model), output)
    attach(model, length=2)  # gated prompts may follow
    assert torch.equal(entry.run(model), output)


@EACH
def test_a_deep_copy_and_its_original_are_two_models(name):
    entry = ZOO[name]
    model = entry.frozen()
    frozen = entry.run(model)
    join(model)
    joined = entry.run(model)
    copied = copy.deepcopy(model)
    assert torch.equal(entry.run(copied), joined)
    with torch.no_grad():
        for part in prefixes(copied):
            part.value.mul_(-1)
    assert not torch.allclose(entry.run(copied), joined, atol=1e-3)
    assert torch.equal(entry.run(model), joined)
    detach(model)
    assert torch.equal(entry.run(model), frozen)
    assert not torch.allclose(entry.run(copied), frozen, atol=1e-3)


@EACH
def test_a_state_dict_carries_the_prefixes(name):
    entry = ZOO[name]
    model, other = entry.frozen(), entry.frozen()
    join(model)
    join(other, seed=9)
    assert not torch.equal(entry.run(other), entry.run(model))
    other.load_state_dict(model.state_dict())
    assert torch.equal(entry.run(other), entry.run(model))
    learnt = {key for key in model.state_dict() if ".prefix." in key}
    assert len(learnt) == 2 * len(prefixes(model)) > 0


@pytest.mark.parametrize("name", ["llama", "mistral"])
@KERNELS
def test_generation_with_a_cache_is_greedy_decoding_without(name, kernel):
    model = ZOO[name].frozen(kernel)
    join(model)
    ids = start = text(padded=0)["input_ids"]
    with torch.no_grad():
        for _ in range(6):
            logits = model(input_ids=ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    settings = {"do_sample": False, "pad_token_id": 1, "attention_mask": torch.ones_like(start), "max_new_tokens": 6}
    assert torch.equal(model.generate(start, **settings), ids)


def test_dropout_is_drawn_for_each_example_and_only_in_training():
    part = prefix.Prefix(2, LENGTH, 400, std=1.0, dropout=0.25)
    own = torch.randn(2, 2, 5, 400)
    key, value = part(own, own)
    assert torch.equal(key[..., LENGTH:, :], own)
    dropped = key[..., :LENGTH, :] == 0
    assert abs(dropped.float().mean() - 0.25) < 0.03
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped, value[..., :LENGTH, :] == 0)
    torch.testing.assert_close(key[..., :LENGTH, :][~dropped], (part.key / 0.75).expand_as(dropped)[~dropped])
    assert torch.equal(part.eval()(own, own)[0][0, :, :LENGTH], part.key)


def test_initial_values_have_the_asked_deviation():
    part = prefix.Prefix(4, 50, 400, std=0.5)
    for parameter in part.parameters():
        assert abs(parameter.std() - 0.5) < 0.01
    assert not torch.equal(part.key, part.value)


def test_a_kernel_that_masks_by_lengths_is_refused(monkeypatch):
    monkeypatch.setitem(transformers.AttentionInterface._global_mapping, "flash_attention_2", lambda *_args: None)
    model = ZOO["llama"].frozen()
    join(model)
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="not with flash_attention_2"):
        model(**text())


@pytest.mark.parametrize("first", [{}, {"splices": [PrefixSplice], "std": 1.0}], ids=["gated", "prefix"])
@pytest.mark.parametrize("second", [{}, {"splices": [PrefixSplice], "std": 1.0}], ids=["gated", "prefix"])
def test_a_layer_is_joined_once(first, second):
    model = ZOO["roberta"].frozen()
    attach(model, length=2, **first)
    before = snapshot(model)
    with pytest.raises(UserError, match="detach them first"):
        attach(model, length=2, **second)
    assert snapshot(model) == before


def applied(model, blocks, **settings):
    backbone = SimpleNamespace(blocks=lambda _model: blocks)
    Prefix(**settings).apply(backbone, model.requires_grad_(False))
    return model


def test_trainable_parameters_of_roberta_large():
    """Two times the width, a token and a layer."""
    size = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    with torch.device("meta"):
        model = transformers.RobertaModel(transformers.RobertaConfig(**ENCODER | size))
    applied(model, model.encoder.layer)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * 16 * 1024 * 24 == 786_432


def test_the_method_joins_every_block_with_its_settings():
    model = ZOO["roberta"].frozen().base_model
    applied(model, model.encoder.layer, length=5, dropout=0.1, std=0.3)
    parts = [layer.attention.self.prefix for layer in model.encoder.layer]
    assert prefixes(model) == parts
    assert [(part.length, part.dropout, part.training) for part in parts] == [(5, 0.1, False)] * 2
    assert all(0.2 < parameter.std() < 0.4 for part in parts for parameter in part.parameters())


def test_attention_of_another_kind_is_refused():
    model = ZOO["timm_vit"].frozen()
    before = snapshot(model)
    with pytest.raises(UserError, match="VisionTransformer has others") as error:
        applied(model, model.blocks)
    assert "\n" not in str(error.value)
    assert snapshot(model) == before


@pytest.mark.parametrize(
    ("setting", "value"), [("length", 0), ("dropout", 1.0), ("dropout", -0.1), ("std", 0.0), ("learning_rate", 0.0)]
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be"):
        Prefix(**{setting: value})


def test_the_kernel_can_be_chosen_while_prefixes_are_joined():
    for name in ("roberta", "llama"):
        model = ZOO[name].frozen("sdpa")
        join(model)
        fused = ZOO[name].run(model)
        use_kernel(model, "eager")
        torch.testing.assert_close(ZOO[name].run(model), fused, atol=1e-4, rtol=1e-4)


def test_attention_weights_begin_with_the_prefix():
    model = ZOO["roberta"].frozen("eager")
    join(model)
    weights = model(**text(), output_attentions=True).attentions
    assert [w.shape for w in weights] == [(2, 4, 7, LENGTH + 7)] * 2
    assert all((w[..., :LENGTH] > 0).all() for w in weights)
    assert all((w[1, ..., -2:] == 0).all() for w in weights)


def test_a_prefix_says_what_it_is():
    assert repr(prefix.Prefix(2, 3, 4, std=1.0)) == "Prefix(heads=2, length=3, head_dim=4, dropout=0.0)"
    assert isinstance(prefix.Prefix(2, 3, 4, std=1.0, device="meta").key, nn.Parameter)
