"""Tip-Adapter and Tip-Adapter-F: what they keep of training images, how it votes, and what becomes of it."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.nn import functional

from support import experiments
from support.clip_models import BACKBONE, CLASSES, TEMPLATES, images, learner_of, named, steps
from support.clip_references import image_features, unit
from support.toys import ToyCLIP, ToyPictures, registered, split_of
from zipeft.adapters.saved import TENSORS, load_adapter, save_adapter
from zipeft.api.training_sample import Batch, TrainingSample
from zipeft.backbones.clip.backbone import CLIP
from zipeft.errors import UserError
from zipeft.modules.feature_cache import FeatureCache
from zipeft.modules.hooked import detach
from zipeft.objectives.matching import BaseToNovel, Matching
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator

METHODS = ("tip_adapter", "tip_adapter_f")
IMAGES, TARGETS = images(8), torch.tensor([2, 0, 2, 1, 2, 0, 2, 0])


def shown(method, *, sizes=(3, 3, 2), dtype=torch.float32, classes=CLASSES, objective=None, **settings):
    """Return a learner whose method has seen eight images, in batches of some sizes."""
    learner = learner_of(method, objective, classes, **settings)
    learner.model.to(dtype)
    batches = [Batch(*pair) for pair in zip(IMAGES.to(dtype).split(sizes), TARGETS.split(sizes), strict=True)]
    from zipeft import registry

    sample = TrainingSample(learner, Matching(), lambda: batches, Accelerator(cpu=True).autocast)
    registry.methods.get(method)(**settings).initialise(BACKBONE, learner.model, sample)
    return learner


def cache_of(learner) -> FeatureCache:
    return next(module for module in learner.modules() if isinstance(module, FeatureCache))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shots", [3, 16])
def test_votes_are_those_of_the_papers_formula(method, shots) -> None:
    """alpha * exp(-beta * (1 - f F^T)) L, with F the first images of each class and L one-hot."""
    learner = shown(method, shots=shots, alpha=1.5, beta=4.0, dtype=torch.float64)
    clip = named().double().clip
    kept = torch.tensor([0, 1, 2, 3, 4, 5, 7] if shots == 3 else range(8))  # of class 2 there are four
    keys, values = unit(image_features(clip, IMAGES.double()))[kept], functional.one_hot(TARGETS[kept]).double()
    inputs = images(13)[8:].double()
    near = (-4.0 * (1 - unit(image_features(clip, inputs)) @ keys.T)).exp()
    expected = BACKBONE.matches(named().double(), inputs) + 1.5 * near @ values
    # The keys themselves are float32.
    torch.testing.assert_close(BACKBONE.matches(learner.model, inputs), expected, rtol=0, atol=1e-5)
    cache = cache_of(learner)
    assert cache.keys.shape == (3, min(shots, 4), 24)
    assert cache.filled.sum(1).tolist() == [3, 1, min(shots, 4)]


def test_which_batches_images_come_in_changes_nothing() -> None:
    one, other = (cache_of(shown("tip_adapter", shots=2, sizes=sizes)) for sizes in ((8,), (1, 4, 3)))
    torch.testing.assert_close(one.keys, other.keys)
    assert torch.equal(one.filled, other.filled)


def test_what_trains_is_the_keys_or_nothing() -> None:
    assert learner_of("tip_adapter").trainable() == {}
    learner = shown("tip_adapter_f")
    assert list(learner.trainable()) == ["model.matching_adapter.keys"]
    (keys,) = learner.trainable().values()
    assert keys.dtype == torch.float32
    before = keys.clone()
    steps(learner, images(6), 2)
    moved = (keys != before).any(-1)
    assert torch.equal(moved, cache_of(learner).filled > 0)  # all that are there, and no others


@pytest.mark.parametrize("method", METHODS)
def test_without_images_and_taken_off_it_is_the_frozen_model(method) -> None:
    frozen = BACKBONE.matches(named(), images(4))
    assert torch.equal(BACKBONE.matches(learner_of(method).model, images(4)), frozen)
    learner = shown(method)
    assert (BACKBONE.matches(learner.model, images(4)) - frozen).abs().max() > 1e-2
    model = copy.deepcopy(learner.model)
    detach(model)
    assert torch.equal(BACKBONE.matches(model, images(4)), frozen)
    assert model.state_dict().keys() == named().state_dict().keys()


@pytest.mark.parametrize("method", METHODS)
def test_novel_classes_get_no_votes_and_others_theirs_in_any_order(method) -> None:
    classes = ("red", "green", "blue", "black", "white")
    objective = BaseToNovel(TEMPLATES, classes=classes)
    learner, inputs = shown(method, classes=classes, objective=objective), images(6)
    with torch.no_grad():
        base = learner(inputs)
        with objective.testing(learner.backbone, learner.model):
            both = learner(inputs)
        BACKBONE.name_classes(learner.model, ("white", "blue", "red"), TEMPLATES)
        other = learner(inputs)
    torch.testing.assert_close(both[:, :3], base)
    torch.testing.assert_close(both[:, 3:], BACKBONE.matches(named(classes=classes[3:]), inputs))
    torch.testing.assert_close(other, torch.stack([both[:, 4], both[:, 2], both[:, 0]], dim=1))


@pytest.mark.parametrize("method", METHODS)
def test_keys_on_vit_b_16_are_one_for_each_shot_of_a_class(method) -> None:
    with torch.device("meta"):
        learner = learner_of(method, backbone=CLIP("ViT-B-16", pretrained=False))
    assert cache_of(learner).keys.numel() == 3 * 16 * 512
    trainable = sum(parameter.numel() for parameter in learner.trainable().values())
    assert trainable == (3 * 16 * 512 if method == "tip_adapter_f" else 0)


@pytest.fixture(scope="module")
def known():
    with registered():
        yield


@pytest.mark.parametrize("method", METHODS)
def test_a_run_keeps_its_training_images_and_comes_back(method, known, tmp_path) -> None:
    backbone, task = ToyCLIP(), ToyPictures(examples=24)
    names = ("toy_image_text", "toy_image_text")
    made = experiments.experiment(backbone, task, names=names, epochs=2, batch_size=8)
    run = experiments.run("colours", method, shots=9)
    result, learner = made.measure(run)
    keys = cache_of(learner).keys
    assert keys.shape == (3, 8, 24)  # 24 images of three classes
    assert result.cost.trainable_parameters == (keys.numel() if method == "tip_adapter_f" else 0)
    untuned, _ = made.measure(experiments.run("colours", "untuned"))
    assert result.score > untuned.score
    assert (len(result.history) > 0) == (method == "tip_adapter_f")
    if result.history:
        assert result.history[-1].train_loss < result.history[0].train_loss

    folder = save_adapter(tmp_path / "kept", learner, made.describer.adapter(run))
    loaded, _ = load_adapter(folder)
    assert torch.equal(cache_of(loaded).keys, keys)
    test = encode(split_of(task.load("colours"), "test"), task.windows(backbone), backbone)
    _, predictions = Evaluator(Matching(), Accelerator(cpu=True)).test(loaded, test)
    assert tuple(predictions) == result.predictions

    tensors = load_file(folder / TENSORS)
    more = {"keys": torch.zeros(3, 10, 24), "filled": torch.ones(3, 10)}  # than the settings allow
    for others in ({"keys": torch.zeros(3, 7, 24)}, {"filled": torch.ones(())}, {"filled": torch.ones(2, 8)}, more):
        changed = {f"model.matching_adapter.{name}": tensor for name, tensor in others.items()}
        save_file(tensors | changed, folder / TENSORS)
        with pytest.raises(UserError, match=r"does not fit .*matching_adapter.* differs"):
            load_adapter(folder)


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="none are named"):
        learner_of("tip_adapter", classes=())
