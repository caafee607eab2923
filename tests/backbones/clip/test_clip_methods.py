"""Methods on CLIP: what joins which tower, what moves, what a step costs, and tuned towers with other classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from support.clip_models import BACKBONE, TEMPLATES, images, learner_of, named, steps
from support.method_cases import methods_for
from support.model_zoo import ordinary_path, randomise_prompts
from support.toys import ToyPictures
from zipeft.backbones.clip.backbone import CLIP
from zipeft.objectives.matching import BaseToNovel, Matching
from zipeft.splices import gated_prompts
from zipeft.training.costs import count_flops
from zipeft.training.dataset import encode

METHODS = methods_for("image-text")


@pytest.mark.parametrize("method", ["zero_gated", "zero_gated_image", "zero_gated_text"])
def test_at_zero_gate_both_towers_are_the_frozen_ones(method) -> None:
    learner = learner_of(method)
    with ordinary_path():
        assert torch.equal(learner(images(4)), BACKBONE.matches(named(), images(4)))
    joined = {"zero_gated": 4}.get(method, 2)
    assert len(gated_prompts(learner.model)) == joined
    randomise_prompts(gated_prompts(learner.model))
    changed = BACKBONE.class_features(learner.model), BACKBONE.features(learner.model, images(4))
    frozen = BACKBONE.class_features(named()), BACKBONE.features(named(), images(4))
    text, image = ((a - b).abs().max().item() > 1e-3 for a, b in zip(changed, frozen, strict=True))
    assert text == (method != "zero_gated_image")
    assert image == (method != "zero_gated_text")


def test_lora_adapts_the_attention_of_both_towers_and_leaves_the_weights() -> None:
    learner = learner_of("lora")
    inputs = images(6)
    frozen = named()
    torch.testing.assert_close(learner(inputs), BACKBONE.matches(frozen, inputs))
    start = {name: value.clone() for name, value in learner.trainable().items()}
    steps(learner, inputs, 4)
    moved = [name for name, value in learner.trainable().items() if not torch.equal(value, start[name])]
    adapted = {name.partition(".lora_")[0] for name in moved}
    attentions = [name for name, module in frozen.named_modules() if isinstance(module, nn.MultiheadAttention)]
    assert len(attentions) == 4
    layers = {f"{name}.{part}" for name in attentions for part in ("in_proj", "out_proj")}
    assert {name.removeprefix("model.") for name in adapted} == layers
    own = {name.replace("base_layer.", ""): p for name, p in learner.model.named_parameters() if "lora_" not in name}
    for name, value in frozen.named_parameters():
        assert torch.equal(own[name.replace("in_proj_", "in_proj.")], value)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "untuned"])
def test_every_trainable_parameter_gets_a_gradient(method) -> None:
    learner = learner_of(method)
    moved = set()
    for _ in range(3):  # a zero gate, and LoRA's zero matrix, hold back the gradient of what they multiply at first
        steps(learner, images(6), 1)
        moved |= {name for name, p in learner.trainable().items() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == set(learner.trainable())


def test_what_is_kept_of_texts_costs_no_step_any_arithmetic() -> None:
    task, inputs = ToyPictures(), images(1)
    train = encode(task.load("colours").train, task.windows(BACKBONE), BACKBONE)
    learner = learner_of("zero_gated_image", length=1)
    learner.find_trunk(inputs)
    training, inference = count_flops(learner, Matching(), train, torch.device("cpu"), batch_size=1)
    with torch.no_grad(), ordinary_path(), sdpa_kernel(SDPBackend.MATH):  # whose arithmetic is counted
        BACKBONE.features(learner.model, inputs)  # the prompts' keys and values are kept from now on
        with FlopCounterMode(display=False) as counter:
            BACKBONE.features(learner.model, inputs)
    tower, matching = counter.get_total_flops(), 2 * 24 * 3
    assert inference == tower + matching
    assert inference < training < 4 * inference


def test_texts_that_train_are_computed_once_a_batch_and_so_is_their_arithmetic() -> None:
    task = ToyPictures()
    train = encode(task.load("colours").train, task.windows(BACKBONE), BACKBONE)

    def counted(method: str, batch_size: int) -> tuple[int, int]:
        return count_flops(learner_of(method), Matching(), train, torch.device("cpu"), batch_size)

    alone, shared = counted("coop", 1), counted("coop", 8)
    assert alone[1] == shared[1]  # nothing trains while it infers: texts are kept
    texts = (alone[0] - shared[0]) * 8 / 7
    assert shared[0] - texts / 8 < alone[1] * 1.1  # of the image tower, which is frozen, the forward pass alone
    assert texts > alone[1]  # three texts, forward and backward


def test_bitfit_trains_the_biases_of_the_in_projections() -> None:
    names = learner_of("bitfit").trainable()
    assert sum(name.endswith("attn.in_proj_bias") for name in names) == 4


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("untuned", "linear")])
def test_base_and_novel_classes_are_told_apart_after_a_training_on_base_classes(method) -> None:
    """Naming others after a training keeps what was learnt; an independent model that has learnt the same agrees."""
    classes = ("red", "green", "blue", "black", "white")
    objective = BaseToNovel(TEMPLATES, classes=classes)
    learner = learner_of(method, objective, classes)
    inputs = images(6)
    assert learner(inputs).shape == (6, 3)
    steps(learner, inputs)
    with torch.no_grad():
        tuned = learner(inputs)
        with objective.testing(learner.backbone, learner.model):
            final = objective.predict(learner(inputs))
        validation = objective.predict(learner(inputs))
        with objective.testing(learner.backbone, learner.model):
            again = objective.predict(learner(inputs))
    assert [base for base, _ in final] == tuned.argmax(-1).tolist()
    assert validation == [(base, None) for base, _ in final]
    assert all(novel in (3, 4) for _, novel in final)
    assert again == final

    fresh = learner_of(method, Matching(TEMPLATES), classes)
    with torch.no_grad():
        for name, parameter in fresh.trainable().items():
            parameter.copy_(learner.trainable()[name])
        with objective.testing(learner.backbone, learner.model):
            torch.testing.assert_close(fresh(inputs), learner(inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "expected"),
    [("zero_gated_image", 92_304), ("zero_gated_text", 61_536), ("zero_gated", 153_840), ("coop", 4 * 512)],
)
def test_vit_b_16_counts(method, expected) -> None:
    """K = 10 in all 12 + 12 layers: 12 * (10 * 768 + 12) and 12 * (10 * 512 + 8)."""
    with torch.device("meta"):
        learner = learner_of(method, backbone=CLIP("ViT-B-16", pretrained=False))
        assert sum(parameter.numel() for parameter in learner.trainable().values()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "untuned"])
def test_a_step_on_vit_b_16(method) -> None:
    learner = learner_of(method, backbone=CLIP("ViT-B-16/openai", pretrained=False))
    before = {name: value.detach().clone() for name, value in learner.trainable().items()}
    steps(learner, torch.randn(2, 3, 224, 224), 1)
    assert any(not torch.equal(value, before[name]) for name, value in learner.trainable().items())
    assert all(value.isfinite().all() for value in learner.trainable().values())
