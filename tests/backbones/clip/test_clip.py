"""The CLIP backbone as a model: open_clip's numbers, the classes that it knows, and learnt words."""

from __future__ import annotations

import copy

import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from support.clip_models import BACKBONE, CLASSES, TEMPLATES, images, learner_of, named, steps, zero_shot
from support.experiments import experiment, run
from support.model_zoo import randomise_prompts
from support.toys import SIZE, TINY_CLIP, ToyPictures, split_of
from zipeft import registry
from zipeft.backbones.clip.matcher import ZeroShotCLIP, create
from zipeft.errors import UserError
from zipeft.splices import gated_prompts


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many texts each call of open_clip's text encoder gets."""
    calls: list[int] = []
    own = open_clip.CLIP.encode_text

    def counted(self, text, **options):
        calls.append(len(text))
        return own(self, text, **options)

    monkeypatch.setattr(open_clip.CLIP, "encode_text", counted)
    return calls


# --- the same as open_clip --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[:1]])
def test_matches_are_open_clips_own_to_the_last_bit(templates) -> None:
    """On pictures of any size, through open_clip's own preprocessing."""
    model = named(*templates)
    generator = torch.Generator().manual_seed(0)
    pixels = [torch.randint(256, (h, w, 3), generator=generator) for h, w in ((20, 31), (16, 16), (9, 50), (40, 12))]
    pictures = [Image.fromarray(each.to(torch.uint8).numpy()) for each in pixels]
    transform = open_clip.image_transform(SIZE, is_train=False)
    theirs = torch.stack(list(map(transform, pictures)))
    ours = torch.stack(list(map(BACKBONE.preprocess(), pictures)))
    expected = zero_shot(create_like(model), BACKBONE.tokenizer(), theirs, CLASSES, templates)
    with torch.no_grad():
        assert torch.equal(BACKBONE.matches(model, ours), expected)
    assert expected.argmax(-1).unique().numel() > 1


def create_like(model: ZeroShotCLIP) -> nn.Module:
    """open_clip's own model with the same weights; frozen too, for PyTorch rounds otherwise where weights train."""
    clip = create(TINY_CLIP).requires_grad_(False)
    clip.load_state_dict(model.clip.state_dict())
    return clip


def test_zero_shot_accuracy_of_a_run_is_open_clips_own() -> None:
    task = ToyPictures()
    result, _ = experiment(BACKBONE, task).measure(run("colours", "untuned"))
    test = split_of(task.load("colours"), "test")
    clip = create_like(BACKBONE.build())
    logits = zero_shot(clip, BACKBONE.tokenizer(), torch.stack(test.examples), ["red", "green", "blue"], TEMPLATES[:1])
    assert result.score == sum(logits.argmax(-1) == torch.tensor(test.targets)).item() / len(test.targets)
    assert list(result.predictions) == logits.argmax(-1).tolist()


def test_a_text_tower_of_its_own_and_a_bias_of_the_logits() -> None:
    """As SigLIP has them; open_clip's own blocks have an attention of another class here."""
    text = {**TINY_CLIP["text_cfg"], "block_type": "custom"}
    clip = create({**TINY_CLIP, "text_cfg": text, "custom_text": True, "init_logit_bias": -3.0})
    model = ZeroShotCLIP(clip).requires_grad_(False)
    BACKBONE.name_classes(model, CLASSES, TEMPLATES[:1])
    tokens = BACKBONE.tokenizer()([f"a photo of a {name}." for name in ("red", "green", "light blue")])
    with torch.no_grad():
        expected, _ = clip.get_logits(images(4), tokens)
        torch.testing.assert_close(BACKBONE.matches(model, images(4)), expected)
        registry.methods.get("zero_gated")(length=2).apply(BACKBONE, model)
        assert len(gated_prompts(model)) == 4
        torch.testing.assert_close(BACKBONE.matches(model, images(4)), expected)
        randomise_prompts(gated_prompts(model))
        assert (BACKBONE.matches(model, images(4)) - expected).abs().max() > 1e-3


# --- the model --------------------------------------------------------------------------------------------------------


def test_sizes_and_hidden_states() -> None:
    model = BACKBONE.build()
    assert (BACKBONE.width(model), BACKBONE.hidden_width(model), BACKBONE.leading_tokens(model)) == (24, 32, 1)
    assert {name: len(blocks) for name, blocks in BACKBONE.towers(model).items()} == {"image": 2, "text": 2}
    assert BACKBONE.towers(model)["image"] == BACKBONE.blocks(model)
    seen = []
    for block in BACKBONE.blocks(model):
        block.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output.shape)))
    assert BACKBONE.features(model, images(2)).shape == (2, 24)
    assert seen == [((2, 17, 32), (2, 17, 32))] * 2
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_images_of_another_size_are_refused_in_one_line() -> None:
    for read in (BACKBONE.features, BACKBONE.matches):
        with pytest.raises(UserError, match="the images are of 8 x 12 pixels, and this model takes 16 x 16 alone"):
            read(named(), torch.zeros(1, 3, 8, 12))


def test_matches_need_names() -> None:
    with pytest.raises(UserError, match="none are named yet"):
        BACKBONE.matches(BACKBONE.build(), images(1))


def test_random_weights_are_the_same_each_time() -> None:
    first = create(TINY_CLIP).state_dict()
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    second = create(TINY_CLIP).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_a_long_text_is_refused_and_the_class_is_named() -> None:
    longest = " ".join(["red"] * 14)  # and the tokens that begin and end a text
    model = named("{}", classes=(longest,))
    with pytest.raises(UserError, match=r"'red red .*' is longer than the 16 tokens"):
        BACKBONE.name_classes(model, ("red", f"{longest} red"), ("{}",))
    assert model.classes == (longest,)
    with pytest.raises(UserError, match="is longer than the 16 tokens"):
        BACKBONE.name_classes(model, (longest,), ("a {}",))


def test_other_names_give_other_features_and_the_same_names_the_same() -> None:
    model = named()
    first = BACKBONE.class_features(model)
    BACKBONE.name_classes(model, ("one", "two"), TEMPLATES)
    assert BACKBONE.class_features(model).shape == (2, 24)
    BACKBONE.name_classes(model, list(CLASSES), list(TEMPLATES))
    assert torch.equal(BACKBONE.class_features(model), first)
    BACKBONE.name_classes(model, CLASSES, TEMPLATES[:1])
    assert not torch.equal(BACKBONE.class_features(model), first)
    torch.testing.assert_close(first.norm(dim=-1), torch.ones(3))


def test_many_texts_are_encoded_in_parts(monkeypatch, encoded) -> None:
    whole = BACKBONE.class_features(named())
    monkeypatch.setattr("zipeft.backbones.clip.matcher.AT_ONCE", 4)
    torch.testing.assert_close(BACKBONE.class_features(named()), whole)
    assert encoded == [9, 4, 4, 1]


@pytest.mark.parametrize("method", ["linear", "untuned", "zero_gated_image", "prompt", "deep_prompt"])
def test_text_features_of_a_frozen_tower_are_computed_once(method, encoded) -> None:
    learner = learner_of(method)
    inputs = images(4)
    learner.find_trunk(inputs)
    if learner.trainable():
        steps(learner, inputs, 3)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            learner(inputs)
    BACKBONE.name_classes(learner.model, learner.model.classes, learner.model.templates)
    learner(inputs)
    assert encoded == ([] if method == "linear" else [9])


@pytest.mark.parametrize("method", ["coop", "zero_gated_text", "lora", "bitfit"])
def test_text_features_that_train_are_computed_once_for_each_evaluation(method, encoded) -> None:
    learner = learner_of(method)
    inputs = images(4)
    for _ in range(2):
        encoded.clear()
        steps(learner, inputs, 3)
        assert len(encoded) == 3
        with torch.no_grad():
            first, second = learner(inputs), learner(inputs)
            assert len(encoded) == 4
            assert torch.equal(first, second)
        torch.testing.assert_close(first, learner(inputs))  # with gradients: nothing was stale


def test_features_that_were_kept_in_inference_mode_can_be_trained_against() -> None:
    learner = learner_of("zero_gated_image")
    with torch.inference_mode():
        learner(images(4))
    before = [prompt.gate.clone() for prompt in gated_prompts(learner.model)]
    steps(learner, images(4), 1)
    assert not any(map(torch.equal, before, [prompt.gate for prompt in gated_prompts(learner.model)]))


def test_any_change_of_the_text_tower_drops_what_was_kept() -> None:
    learner = learner_of("zero_gated_text")
    model = learner.model
    randomise_prompts(gated_prompts(model))
    others = ("clip.visual", "clip.logit")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            before = model.class_features()
            parameter.mul_(-1.1)
            after = model.class_features()
            assert torch.equal(after, copy.deepcopy(model).class_features())  # a copy starts with nothing kept
            # A key's bias cancels in the softmax, and one gate's sign alone may do little.
            assert torch.equal(after, before) == name.startswith(others) or name.endswith("in_proj_bias"), name


def test_other_storage_under_a_parameter_of_the_text_tower_drops_what_was_kept() -> None:
    model = learner_of("zero_gated_text").model
    with torch.no_grad():
        before = model.class_features()
        weight = model.get_parameter("clip.token_embedding.weight")
        weight.data = weight.data * -1.1  # which counts as no change of the parameter
        after = model.class_features()
        assert torch.equal(after, copy.deepcopy(model).class_features())
        assert not torch.equal(after, before)


# --- learnt words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["named", "learnt"])
def test_words_that_start_as_a_template_are_that_template(first) -> None:
    expected = BACKBONE.matches(named("a photo of a {}"), images(3))
    model = BACKBONE.build().requires_grad_(False)
    if first == "named":
        BACKBONE.name_classes(model, CLASSES, TEMPLATES)
    BACKBONE.learn_context(model, 4, "a photo of a")
    BACKBONE.name_classes(model, CLASSES, TEMPLATES)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["context"]
    with torch.no_grad():
        torch.testing.assert_close(BACKBONE.matches(model, images(3)), expected)
        model.context[2] *= -1
        assert (BACKBONE.matches(model, images(3)) - expected).abs().max() > 1e-3


def test_learnt_words_are_drawn_by_the_seed_and_outlast_other_names() -> None:
    learner = learner_of("coop", length=8)
    context = learner.model.context
    assert context.shape == (8, 32)
    assert context.dtype == torch.float32
    assert 0.015 < context.std() < 0.025
    assert torch.equal(context, learner_of("coop", length=8).model.context)
    before = BACKBONE.class_features(learner.model)
    BACKBONE.name_classes(learner.model, ("one", "two"), TEMPLATES)
    assert learner.model.context is context
    BACKBONE.name_classes(learner.model, CLASSES, ("{} anything",))
    torch.testing.assert_close(BACKBONE.class_features(learner.model), before)  # no template beside the learnt words


def test_learnt_words_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = named()
    with pytest.raises(UserError, match="'a photo of' are 3 tokens, and length is 4"):
        BACKBONE.learn_context(model, 4, "a photo of")
    with pytest.raises(UserError, match="or learn fewer words"):
        BACKBONE.learn_context(model, 14)
    assert model.context is None
    assert torch.equal(BACKBONE.class_features(model), BACKBONE.class_features(named()))
    BACKBONE.learn_context(model, 12)
    with pytest.raises(UserError, match="or learn fewer words"):
        BACKBONE.name_classes(model, ("one two three",), TEMPLATES)
    with pytest.raises(UserError, match="or learn fewer words"):
        BACKBONE.learn_context(BACKBONE.build(), 15)


def test_a_tokenizer_without_a_start_token_is_refused() -> None:
    tokenizer = BACKBONE.tokenizer()

    def bare(texts, context_length=None):
        return torch.nn.functional.pad(tokenizer(texts, context_length)[:, 1:], (0, 1))

    bare.context_length = tokenizer.context_length
    with pytest.raises(UserError, match="puts no start token"):
        named().learn_context(4, "", bare)
