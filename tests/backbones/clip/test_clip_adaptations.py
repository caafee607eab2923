"""Methods on CLIP that are asked for by name: the papers' formulas, their sizes, and the way back."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from support.clip_models import BACKBONE, CLASSES, TEMPLATES, images, learner_of, named, steps
from support.clip_references import image_features, text_features, unit
from zipeft.backbones.clip.backbone import CLIP
from zipeft.backbones.clip.texts import readable
from zipeft.errors import UserError
from zipeft.modules.hooked import detach
from zipeft.modules.matching_adapter import places
from zipeft.objectives.matching import BaseToNovel, Matching

METHODS = ("clip_adapter", "taskres", "cocoop", "maple")


def moved(method: str, **settings) -> torch.nn.Module:
    """Return a float64 model with a method whose parameters have left their start."""
    model = learner_of(method, **settings).model.double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model.requires_grad_(False)


def frozen() -> torch.nn.Module:
    """Return open_clip's own model as it is, in float64."""
    return named().double().clip


def classes(clip, templates=TEMPLATES) -> torch.Tensor:
    """Return the features (classes, width) of texts that are normalised and averaged over templates."""
    tokenizer = BACKBONE.tokenizer()
    texts = [tokenizer([template.format(readable(name)) for name in CLASSES]) for template in templates]
    return torch.stack([unit(text_features(clip, tokens)) for tokens in texts]).mean(0)


def cosines(clip, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return clip.logit_scale.exp() * unit(one) @ unit(other).T


INPUTS = images(5).double()


def clip_adapter(model, clip):
    """f* = ratio * ReLU(f W1) W2 + (1 - ratio) * f."""
    features = image_features(clip, INPUTS)
    adapted = functional.relu(features @ model.adapter.down.weight.T) @ model.adapter.up.weight.T
    return cosines(clip, 0.3 * adapted + 0.7 * features, classes(clip))


def taskres(model, clip):
    """t' = t + scale * x."""
    return cosines(clip, image_features(clip, INPUTS), classes(clip) + 0.25 * model.adapter.residual)


def cocoop(model, clip):
    """v_m(x) = v_m + h(x), and every image's texts apart."""
    tokens = BACKBONE.tokenizer()([f"X X X X {readable(name)}" for name in CLASSES])
    net, rows = model.condition, []
    for features in image_features(clip, INPUTS):
        hidden = functional.relu(net.down.weight @ unit(features) + net.down.bias)
        words = model.context + (net.up.weight @ hidden + net.up.bias)
        rows.append(cosines(clip, features[None], text_features(clip, tokens, [words])))
    return torch.cat(rows)


def maple(model, clip):
    """The words P_i in the text tower, F_i(P_i) in the image tower."""
    words = [model.context, *model.coupled_prompts.words[1:]]
    tokens = BACKBONE.tokenizer()([f"X X of a {readable(name)}" for name in CLASSES])
    projected = [
        own @ layer.weight.T + layer.bias for own, layer in zip(words, model.coupled_prompts.projections, strict=True)
    ]
    return cosines(clip, image_features(clip, INPUTS, projected), text_features(clip, tokens, words))


@pytest.mark.parametrize(
    ("reference", "settings"),
    [
        (clip_adapter, {"ratio": 0.3, "bottleneck": 7}),
        (taskres, {"scale": 0.25}),
        (cocoop, {"reduction": 5}),
        (maple, {"depth": 1}),
        (maple, {"depth": 2}),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_matches_are_those_of_the_papers_formulas(reference, settings) -> None:
    model = moved(reference.__name__, **settings)
    expected = reference(model, frozen())
    torch.testing.assert_close(BACKBONE.matches(model, INPUTS), expected, rtol=0, atol=1e-9)
    assert (expected - BACKBONE.matches(named().double(), INPUTS)).abs().max() > 1e-2


def test_the_reference_is_the_frozen_model_where_nothing_is_added() -> None:
    clip = frozen()
    expected = cosines(clip, image_features(clip, INPUTS), classes(clip))
    torch.testing.assert_close(BACKBONE.matches(named().double(), INPUTS), expected, rtol=0, atol=1e-9)


def test_residuals_of_zero_leave_the_frozen_model_bit_for_bit() -> None:
    for templates in (TEMPLATES, TEMPLATES[:1]):
        learner = learner_of("taskres", Matching(templates))
        assert torch.equal(learner(images(4)), BACKBONE.matches(named(*templates), images(4)))


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        # W1 (512, 128) and W2 (128, 512).
        ("clip_adapter", {}, 2 * 512 * 128),
        ("clip_adapter", {"bottleneck": 64}, 2 * 512 * 64),
        # One residual a class.
        ("taskres", {}, 3 * 512),
        # 35,360 is published: four words, and 512 to 32 to 512 with biases.
        ("cocoop", {}, 35_360),
        # 3.55M is published, of 3,555,072: nine times two words, and 512 to 768 with a bias.
        ("maple", {}, 9 * (2 * 512 + 512 * 768 + 768)),
    ],
)
def test_vit_b_16_trains_as_many_parameters_as_the_formulas_say(method, settings, expected) -> None:
    with torch.device("meta"):
        learner = learner_of(method, backbone=CLIP("ViT-B-16", pretrained=False), **settings)
        assert sum(parameter.numel() for parameter in learner.trainable().values()) == expected


@pytest.mark.parametrize("method", METHODS)
def test_trainable_parameters_are_float32_and_all_of_them_learn(method) -> None:
    learner = learner_of(method)
    assert {parameter.dtype for parameter in learner.trainable().values()} == {torch.float32}
    before = {name: parameter.clone() for name, parameter in learner.named_parameters()}
    steps(learner, images(6), 2)
    changed = {name for name, parameter in learner.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == set(learner.trainable())


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_of_a_model_shares_nothing_with_it(method) -> None:
    learner = learner_of(method)
    other, inputs = copy.deepcopy(learner), images(6)
    before = learner(inputs)
    torch.testing.assert_close(other(inputs), before)
    steps(other, inputs, 2)
    torch.testing.assert_close(learner(inputs), before)
    assert (other(inputs) - before).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_what_is_taken_off_leaves_the_untouched_model(method) -> None:
    learner = learner_of(method)
    steps(learner, images(6), 2)
    model = copy.deepcopy(learner).model  # hooks of a copy are its own
    detach(model)
    BACKBONE.forget_context(model)
    untouched = named()
    assert model.state_dict().keys() == untouched.state_dict().keys()
    assert torch.equal(BACKBONE.matches(model, images(4)), BACKBONE.matches(untouched, images(4)))


def test_classes_without_a_residual_have_their_frozen_texts() -> None:
    """Whatever their order, and beside others: what is learnt of a class goes by its name."""
    learner, inputs = learner_of("taskres"), images(6)
    steps(learner, inputs, 2)
    with torch.no_grad():
        learnt = learner(inputs)
        BACKBONE.name_classes(learner.model, ("black", "light_blue", "red", "white"), TEMPLATES)
        there = learner(inputs)
    others = BACKBONE.matches(named(classes=("black", "white")), inputs)
    torch.testing.assert_close(there[:, [1, 2]], learnt[:, [2, 0]])
    torch.testing.assert_close(there[:, [0, 3]], others)
    assert (learnt - BACKBONE.matches(named(), inputs)).abs().max() > 1e-2


def test_classes_of_one_name_keep_their_order() -> None:
    assert places(["b", "a", "b", "c", "b"], ["b", "b", "a"]) == [0, 2, 1, -1, -1]


@pytest.mark.parametrize("method", METHODS)
def test_novel_classes_are_scored_after_a_training_on_base_classes(method) -> None:
    classes = ("red", "green", "blue", "black", "white")
    objective = BaseToNovel(TEMPLATES, classes=classes)
    learner, inputs = learner_of(method, objective, classes), images(6)
    steps(learner, inputs, 2)
    with torch.no_grad():
        base = learner(inputs)
        with objective.testing(learner.backbone, learner.model):
            both = learner(inputs)
    torch.testing.assert_close(both[:, :3], base)
    zero_shot = BACKBONE.matches(named(classes=classes[3:]), inputs)
    assert torch.allclose(both[:, 3:], zero_shot, atol=1e-4) == (method == "taskres")


def test_texts_of_each_image_are_encoded_in_parts_and_have_no_features_of_their_own(monkeypatch) -> None:
    model, inputs = learner_of("cocoop").model, images(5)
    whole = BACKBONE.matches(model, inputs)
    monkeypatch.setattr("zipeft.backbones.clip.matcher.AT_ONCE", 4)
    torch.testing.assert_close(BACKBONE.matches(model, inputs), whole)
    with pytest.raises(UserError, match="others for each image"):
        BACKBONE.class_features(model)


@pytest.mark.parametrize("method", ["clip_adapter", "taskres"])
def test_texts_of_a_frozen_tower_are_encoded_once(method, monkeypatch) -> None:
    learner, calls = learner_of(method), []
    own = learner.model._encode_classes
    monkeypatch.setattr(learner.model, "_encode_classes", lambda: calls.append(None) or own())
    steps(learner, images(6), 3)
    learner(images(6))
    assert len(calls) == 1


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    for method, settings, reason in (
        ("taskres", {}, "none are named"),
        ("maple", {"length": 3}, "'a photo' are 2 tokens, and length is 3"),
        ("cocoop", {"length": 2}, "'a photo of a' are 4 tokens, and length is 2"),
        ("maple", {"behind": "of " * 14}, "or learn fewer words"),
    ):
        with pytest.raises(UserError, match=reason):
            learner_of(method, classes=() if method == "taskres" else CLASSES, **settings)
