"""Every registered backbone keeps its contract under every registered method, at random weights: nothing is fetched."""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache

import pytest
import torch

from support.method_cases import asked_for, covered, methods_for, slow
from support.model_zoo import twin
from zipeft import registry
from zipeft.api.data import NO_LABEL
from zipeft.api.learner import build_learner
from zipeft.api.training_sample import Batch, TrainingSample
from zipeft.objectives.classification import Classification
from zipeft.objectives.matching import Matching
from zipeft.objectives.responses import Responses

SIZE = 56


def text():
    """Two sentences, of which the second is padded."""
    ids = torch.randint(5, 1000, (2, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, 8:], mask[1, 8:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def instruction():
    """The same, of which the last real tokens are responses."""
    inputs = text()
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, NO_LABEL)
    labels[:, :6] = NO_LABEL
    return {**inputs, "labels": labels}


def image_instruction():
    """The same, the first with an image and the second without one."""
    images = torch.randn(2, 768, generator=torch.Generator().manual_seed(0))
    return {**instruction(), "image": images, "has_image": torch.tensor([[True], [False]])}


INPUTS = {
    "image": lambda: torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)),
    "text": text,
    "instruction": instruction,
    "image-instruction": image_instruction,
    "image-text": lambda: torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)),
}


OBJECTIVES = {"instruction": Responses(), "image-instruction": Responses(), "image-text": Matching()}
CLASSES = ("star", "heart", "arrow up")
MODALITIES = {backbone: registry.backbones.get(backbone).modality for backbone in registry.backbones.names()}
PAIRS = [
    *covered((backbone, method) for backbone, modality in MODALITIES.items() for method in methods_for(modality)),
    *slow((backbone, method) for backbone, modality in MODALITIES.items() for method in asked_for(modality)),
]


@pytest.fixture(scope="module", params=registry.backbones.names())
def backbone(request):
    return registry.backbones.get(request.param)(pretrained=False)


@lru_cache(maxsize=1)
def built(backbone):
    return backbone.build()


@pytest.fixture
def model(backbone):
    return twin(built(backbone))


@pytest.fixture
def inputs(backbone):
    return INPUTS[backbone.modality]()


def test_the_model_comes_in_float32_and_evaluation_mode_and_always_the_same(backbone, model):
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    again = backbone.build().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert backbone.weights().source == "random"


def test_features_have_the_width_that_the_backbone_says(backbone, model, inputs):
    assert backbone.features(model, inputs).shape == (2, backbone.width(model))


def test_data_pass_the_blocks_in_order_each_returning_what_it_takes(backbone, model, inputs):
    passed = []
    for index, block in enumerate(backbone.blocks(model)):
        block.register_forward_hook(lambda _b, args, out, index=index: passed.append((index, args[0].shape, out.shape)))
    backbone.features(model, inputs)
    assert [index for index, _, _ in passed] == list(range(len(backbone.blocks(model))))
    assert len({shape for _, *shapes in passed for shape in shapes}) == 1
    assert passed[0][1][1] > backbone.leading_tokens(model)


@pytest.mark.parametrize(("backbone", "name"), PAIRS, indirect=["backbone"])
def test_a_method_trains_on_it_and_its_prefix_is_what_the_whole_model_computes(backbone, model, inputs, name):
    torch.manual_seed(0)
    method = registry.methods.get(name)()
    objective = method.objective(OBJECTIVES.get(backbone.modality, Classification()))
    learner = build_learner(method.adapt, backbone, model.requires_grad_(False), objective, CLASSES)
    if method.sample_size():
        batch = Batch(inputs, torch.tensor([0, 1]))
        method.initialise(backbone, model, TrainingSample(learner, objective, lambda: [batch], nullcontext))
    learner.find_trunk(inputs)
    if learner.trainable():
        objective.loss(learner.train()(inputs), torch.tensor([0, 1])).backward()
    gradients = {key: parameter.grad for key, parameter in learner.trainable().items()}
    assert all(torch.isfinite(g).all() for g in gradients.values() if g is not None)
    assert any(g is not None and g.abs().max() > 0 for key, g in gradients.items() if not key.startswith("head.")) or (
        learner.only_head_trains
    )
    learner.eval()
    if learner.has_trunk:
        assert torch.equal(learner(inputs, learner.run_trunk(inputs)), learner(inputs))
