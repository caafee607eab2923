"""Generation by decoders, with every method: cached or not, in batches and alone, between steps of training."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, EncoderDecoderCache, StaticCache

from support.method_cases import methods_for
from support.model_zoo import DECODER, PADDING, VOCABULARY, llama, randomise, use_kernel
from zipeft import registry
from zipeft.api.data import NO_LABEL
from zipeft.backbones.llama.backbone import Llama
from zipeft.errors import UserError
from zipeft.methods.prompt import DeepPrompt, Prompt
from zipeft.objectives.responses import Responses
from zipeft.splices import gated_prompts

NEW = 9
LENGTH = 3
LENGTHS = (7, 4, 1)
METHODS = methods_for("instruction")
EACH = pytest.mark.parametrize("method", METHODS)
TRAINED = pytest.mark.parametrize("method", [name for name in METHODS if name != "untuned"])
TOKENS = pytest.mark.parametrize("method", [Prompt, DeepPrompt], ids=["shallow", "deep"])
KERNELS = pytest.mark.parametrize("kernel", ["sdpa", "eager"])


def windowed() -> nn.Module:
    """Layers with a window, narrower than the texts, and without, in turn."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 3, "head_dim": 12}
    layers["tie_word_embeddings"] = False  # tied, it says the same word again and again
    return transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**DECODER, **layers))


def mistral() -> nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**DECODER, sliding_window=3))


def qwen3() -> nn.Module:
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**DECODER, head_dim=12))


FAMILIES = {"llama": llama, "mistral": mistral, "qwen3": qwen3, "gemma3": windowed}


@dataclass(frozen=True)
class Tiny(Llama):
    """A decoder of two narrow layers with random weights, and no tokenizer."""

    family: str = "llama"
    end: int | None = None

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return randomise(FAMILIES[self.family]()).requires_grad_(False).eval()

    def tokenizer(self) -> SimpleNamespace:
        return SimpleNamespace(pad_token_id=PADDING, eos_token_id=self.end)


def tuned(method, dtype=torch.float64, backbone=None, kernel="sdpa"):
    """A backbone and its model, to which a method was applied; what trains was drawn at random, gates included.

    In float64 two tokens are never so near that rounding decides between them.
    """
    backbone = backbone or Tiny()
    model = backbone.build().to(dtype)
    use_kernel(model, kernel)
    plugin = registry.methods.get(method) if isinstance(method, str) else method
    settings = {"length": LENGTH} if hasattr(plugin, "length") else {}
    plugin(**settings).apply(backbone, model)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and method != "full":
            nn.init.normal_(parameter, std=1.0 if "prompt" in name else 0.3)
    return backbone, model.eval()


def texts(lengths=LENGTHS):
    """Prompts of different lengths, padded on the left."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.full((len(lengths), max(lengths)), PADDING)
    for row, length in zip(ids, lengths, strict=True):
        row[len(row) - length :] = torch.randint(2, VOCABULARY, (length,), generator=generator)
    return {"input_ids": ids, "attention_mask": (ids != PADDING).long()}


def alone(inputs, index):
    real = inputs["attention_mask"][index].bool()
    return {name: x[index : index + 1, real] for name, x in inputs.items()}


def positions(inputs):
    return (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)


def passed(block):
    """How many tokens each call of a block takes, prompts included, from now on."""
    seen = []
    block.register_forward_pre_hook(lambda _block, args: seen.append(args[0].shape[1]))
    return seen


def cache_name():
    """What the installed release of transformers calls a model's argument for its cache."""
    return "cache" if hasattr(transformers.modeling_outputs.BaseModelOutputWithPast(), "cache") else "past_key_values"


@pytest.mark.parametrize("family", FAMILIES)
@EACH
def test_a_cache_changes_no_token(method, family):
    backbone, model = tuned(method, backbone=Tiny(family=family))
    sizes = passed(backbone.blocks(model)[-1])
    cached = backbone.generate(model, texts(), NEW)
    assert sizes[1:] == [1] * (NEW - 1)
    assert cached == backbone.generate(model, texts(), NEW, use_cache=False)
    assert len({token for row in cached for token in row}) > 2
    if method != "untuned" and method != "full":
        assert cached != backbone.generate(backbone.build().double(), texts(), NEW)


@pytest.mark.parametrize("family", FAMILIES)
@EACH
def test_a_padded_batch_is_each_prompt_alone(method, family):
    backbone, model = tuned(method, backbone=Tiny(family=family))
    together = backbone.generate(model, texts(), NEW)
    assert together == [backbone.generate(model, alone(texts(), i), NEW)[0] for i in range(len(LENGTHS))]


@EACH
def test_an_answer_that_ends_early_leaves_the_others_as_they_are(method):
    backbone, model = tuned(method)
    whole = backbone.generate(model, texts(), NEW)
    end = whole[0][2]
    expected = [row[: row.index(end)] if end in row else row for row in whole]
    assert backbone.generate(model, texts(), NEW) == whole
    assert tuned(method, backbone=Tiny(end=end))[0].generate(model, texts(), NEW) == expected
    assert len({len(row) for row in expected}) > 1


@EACH
@KERNELS
def test_logits_of_parts_are_those_of_the_whole(method, kernel):
    """Of a text that comes in parts of several tokens and of one; also with the cache that a model makes itself."""
    _, model = tuned(method, torch.float32, kernel=kernel)
    inputs = texts((12, 9, 4))
    inputs["position_ids"] = positions(inputs)
    whole = model(**inputs, use_cache=False).logits
    cache, found, at = DynamicCache(), [], 0
    for size in (5, 1, 1, 4, 1):
        part = slice(at, at := at + size)
        mask = inputs["attention_mask"][:, :at]
        ids, places = inputs["input_ids"][:, part], inputs["position_ids"][:, part]
        options = {cache_name(): cache, "use_cache": True}
        found.append(model(input_ids=ids, attention_mask=mask, position_ids=places, **options).logits)
        assert cache.get_seq_length() == at
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(torch.cat(found, 1)[real], whole[real], atol=2e-5, rtol=0)
    torch.testing.assert_close(model(**inputs).logits[real], whole[real], atol=2e-5, rtol=0)


@EACH
def test_beams_go_on_from_a_cache_as_without(method):
    backbone, model = tuned(method)
    options = {"num_beams": 3, "length_penalty": 0.5}
    cached = backbone.generate(model, texts(), NEW, **options)
    assert cached == backbone.generate(model, texts(), NEW, **options, use_cache=False)
    assert cached != backbone.generate(model, texts(), NEW)


@EACH
def test_sampling_takes_its_options_and_the_seed(method):
    backbone, model = tuned(method)

    def sampled(seed, **options):
        torch.manual_seed(seed)
        return backbone.generate(model, texts(), NEW, do_sample=True, **options)

    assert sampled(0) == sampled(0, use_cache=False) != sampled(1)
    assert sampled(0, temperature=1e-4) == backbone.generate(model, texts(), NEW)


@pytest.mark.parametrize("method", ["zero_gated", "zero_gated_random"])
def test_keys_and_values_of_gated_prompts_are_computed_once(method):
    backbone, model = tuned(method)
    layers, calls = len(backbone.blocks(model)), []
    for prompt in gated_prompts(model):
        project = prompt._keys_and_values

        def counting(dtype, project_, frozen, keys_and_values=project):
            return keys_and_values(dtype, lambda tokens: calls.append(tokens.shape) or project_(tokens), frozen)

        prompt._keys_and_values = counting
    backbone.generate(model, texts(), NEW)
    assert len(calls) == layers == 2
    backbone.generate(model, texts(), NEW)
    assert len(calls) == layers


def test_a_gate_at_zero_generates_what_the_frozen_model_does():
    backbone = Tiny()
    model, plain = backbone.build(), backbone.build()
    registry.methods.get("zero_gated")().apply(backbone, model)
    assert backbone.generate(model, texts(), NEW) == backbone.generate(plain, texts(), NEW)
    assert torch.equal(model(**texts()).logits, plain(**texts()).logits)


# --- caches -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def forward(model, ids, cache):
    """Return the logits of ids that come behind what a cache holds."""
    seen = cache.get_seq_length()
    mask = ids.new_ones(len(ids), seen + ids.shape[1])
    places = torch.arange(seen, mask.shape[1])[None]
    options = {cache_name(): cache, "use_cache": True}
    return model(input_ids=ids, attention_mask=mask, position_ids=places, **options).logits


def ids_of(seed, tokens=6):
    return torch.randint(2, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(seed))


@TOKENS
def test_texts_whose_parts_alternate_do_not_mix(method):
    _, model = tuned(method)
    whole = [model(ids_of(seed), use_cache=False).logits for seed in range(3)]
    caches = [DynamicCache(config=model.config) for _ in range(3)]
    parts = [[forward(model, ids_of(seed)[:, i : i + 2], caches[seed]) for seed in range(3)] for i in (0, 2, 4)]
    for seed, expected in enumerate(whole):
        torch.testing.assert_close(torch.cat([part[seed] for part in parts], 1), expected, atol=1e-9, rtol=0)


@TOKENS
@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_can_be_copied_cut_repeated_selected_and_emptied(method, family):
    _, model = tuned(method, backbone=Tiny(family=family))
    ids, other = ids_of(0), ids_of(1)
    cache = DynamicCache(config=model.config)
    forward(model, ids[:, :4], cache)
    branch = copy.deepcopy(cache)
    forward(model, other[:, 4:], branch)
    expected = model(ids, use_cache=False).logits[:, 4:]
    torch.testing.assert_close(forward(model, ids[:, 4:], copy.deepcopy(cache)), expected, atol=1e-9, rtol=0)
    branch.crop(-2)
    assert branch.get_seq_length() == 4
    torch.testing.assert_close(forward(model, ids[:, 4:], branch), expected, atol=1e-9, rtol=0)
    branch.crop(4)
    assert branch.get_seq_length() == 4
    branch.batch_repeat_interleave(2)
    branch.reorder_cache(torch.tensor([1, 0]))
    torch.testing.assert_close(forward(model, ids[:, 4:].expand(2, -1), branch)[:1], expected, atol=1e-9, rtol=0)
    branch.batch_select_indices(torch.tensor([1]))
    branch.crop(-6)
    assert branch.get_seq_length() == 0
    torch.testing.assert_close(forward(model, ids, branch)[:, 4:], expected, atol=1e-9, rtol=0)
    cache.reset()
    torch.testing.assert_close(forward(model, ids, cache)[:, 4:], expected, atol=1e-9, rtol=0)


@TOKENS
@pytest.mark.parametrize("offset", [1, 2])
@KERNELS
def test_prompts_behind_the_first_tokens_are_cached_where_they_stand(method, offset, kernel):
    @dataclass(frozen=True)
    class Behind(Tiny):
        def leading_tokens(self, model):
            return offset

    _, model = tuned(method, backbone=Behind(), kernel=kernel)
    inputs = {name: x[:, :] for name, x in texts((7, 7)).items()}
    whole = model(**inputs, use_cache=False).logits
    cache = DynamicCache()
    parts = [forward(model, inputs["input_ids"][:, part], cache) for part in (slice(0, 3), slice(3, 4), slice(4, 7))]
    # The eager kernel takes the softmax in float32, whose rounding depends on how many tokens come at once.
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-9 if kernel == "sdpa" else 1e-5, rtol=0)


def filled(model):
    cache = DynamicCache()
    key = torch.ones(1, 2, 4, 12)
    for index in range(model.config.num_hidden_layers):
        cache.update(key, key, index)
    return cache


class Quantized(DynamicLayer):
    """As much of a quantised layer as tells it from a plain one: the real ones need further libraries."""


REFUSED = {
    "static": (lambda model: StaticCache(config=model.config, max_cache_len=20), "a StaticCache"),
    "of other layers": (lambda model: Cache(layer_class_to_replicate=Quantized), "do not go with a Cache"),
    "of its own layers": (lambda model: with_layers(Quantized(), Quantized()), "a DynamicCache of Quantized"),
    "of two": (lambda model: EncoderDecoderCache(DynamicCache(), DynamicCache()), "EncoderDecoderCache"),
    "filled before": (filled, "start with an empty one"),
}


def with_layers(*layers):
    cache = DynamicCache()
    cache.layers = list(layers)
    return cache


@TOKENS
@pytest.mark.parametrize("kind", REFUSED)
def test_a_cache_that_has_no_place_for_prompts_is_refused(method, kind):
    make, message = REFUSED[kind]
    _, model = tuned(method, torch.float32)
    with pytest.raises(UserError, match=message) as error:
        model(**alone(texts(), 0), **{cache_name(): make(model), "use_cache": True})
    assert "\n" not in str(error.value)


# --- training ---------------------------------------------------------------------------------------------------------


def training_batch(padding_side="right", lengths=(8, 5, 6)):
    """Texts whose last three tokens are to be predicted."""
    inputs = texts(lengths)
    labels = torch.where(torch.arange(max(lengths)) >= max(lengths) - 3, inputs["input_ids"], NO_LABEL)
    inputs["labels"] = labels
    if padding_side == "left":
        return inputs
    rows = range(len(lengths))
    return {name: torch.stack([x[i].roll(lengths[i] - max(lengths)) for i in rows]) for name, x in inputs.items()}


def loss_of(backbone, model, inputs):
    return Responses().loss(backbone.log_probs(model, inputs), None)


def gradients(backbone, model, inputs):
    model.zero_grad()
    loss_of(backbone, model, inputs).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@TRAINED
@pytest.mark.parametrize("switches", [True, False], ids=["switching modes", "in evaluation mode"])
def test_training_goes_on_after_answers_were_generated(method, switches):
    backbone, model = tuned(method, torch.float32)
    inputs, trained = training_batch(), [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-2, fused=True)  # which counts no version of what it writes
    answers, before = [], [p.detach().clone() for p in trained]
    for _ in range(3):
        if switches:
            model.eval()
        with torch.no_grad():
            answers.append(backbone.generate(model, texts(), NEW))
            log_probs = backbone.log_probs(model, inputs)
            fresh = copy.deepcopy(model)  # which has nothing cached
            assert answers[-1] == backbone.generate(fresh, texts(), NEW, use_cache=False)
            torch.testing.assert_close(log_probs, backbone.log_probs(fresh, inputs))
        if switches:  # which drops what is cached
            model.train()
        optimizer.zero_grad()
        loss_of(backbone, model, inputs).backward()
        assert all(p.grad is not None and (p.grad != 0).any() for p in trained)
        assert answers[-1] == backbone.generate(model, texts(), NEW)  # what is kept of this is not to outlive the step
        optimizer.step()
    assert all(not torch.equal(p, old) for p, old in zip(trained, before, strict=True))
    assert len({str(answer) for answer in answers}) > 1


@TRAINED
def test_padding_on_the_left_gives_the_gradients_of_padding_on_the_right(method):
    backbone, model = tuned(method)
    expected = gradients(backbone, model, training_batch())
    found = gradients(backbone, model, training_batch("left"))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-6)  # what trains may be float32


@TRAINED
def test_checkpointed_activations_give_the_gradients_of_kept_ones(method):
    backbone, model = tuned(method)
    expected = gradients(backbone, model.train(), training_batch())
    enable_checkpointing(model)
    calls = passed(backbone.blocks(model)[0].mlp)
    found = gradients(backbone, model, training_batch())
    assert len(calls) == 2  # forward, and again on the way back
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-7, rtol=1e-6)


def enable_checkpointing(model):
    """By the name that the installed release of transformers has for it."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


# A bfloat16 keeps 8 bits, so one rounding errs by up to 2^-9 = 0.2 %. About 40 lie in a row here (two layers of about
# ten operations, there and back) and add up like a random walk: 0.2 % * sqrt(40) = 1.2 %, of which cancelling in sums
# makes a few times more (what shifts all keys of a prompt alike cancels in its softmax). An error of part e turns a
# gradient by about e, to a cosine of 1 - e^2 / 2.
ERROR = 0.1


@TRAINED
def test_a_bfloat16_backbone_gives_the_gradients_of_float32_to_its_rounding(method):
    backbone = Tiny()
    rounded, model = tuned(method, torch.bfloat16, backbone)[1], tuned(method, torch.float32, backbone)[1]
    with torch.no_grad():  # the same weights: what is compared is the rounding of what is computed
        for parameter, same in zip(model.parameters(), rounded.parameters(), strict=True):
            parameter.copy_(same)
    found = gradients(backbone, rounded, training_batch())
    expected = gradients(backbone, model, training_batch())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() <= ERROR * gradient.norm(), name
        assert nn.functional.cosine_similarity(found[name].flatten(), gradient.flatten(), 0) >= 1 - ERROR**2 / 2, name
