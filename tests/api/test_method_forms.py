"""Forms of methods that are not shown a part of what a vision-language model is shown."""

from __future__ import annotations

import copy

import pytest
import torch

from support.method_cases import slow
from zipeft import registry
from zipeft.api.learner import build_learner
from zipeft.api.method import FORMS
from zipeft.commands.run import _parse
from zipeft.errors import UserError
from zipeft.experiments.plan import make_plan
from zipeft.methods.zero_gated import ZeroGated
from zipeft.objectives.options import Options

NAMES = [name for name in registry.methods.names() if registry.methods.get(name).goes_with("image-instruction")]
SEEING = [name for name in NAMES if registry.methods.get(name).image_entry != "none"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SEEING)
def test_a_method_has_its_forms_with_the_same_settings(name, form):
    whole, part = registry.methods.get(name), registry.methods.get(f"{name}_{form}")
    assert part is registry.methods.get(f"{name}_{form}")
    assert issubclass(part, whole)
    assert part() == part()
    assert part().__dict__ == whole().__dict__
    assert part.goes_with("image-instruction")
    assert not part.goes_with("instruction")
    assert f"{name}_{form}" not in registry.methods.names()


@pytest.mark.parametrize("name", ["untuned_blind", "coop_blind", "linear_unasked", "lora_deaf", "nothing_blind"])
def test_what_has_no_form_is_refused(name):
    with pytest.raises(UserError, match=r"no form|unknown method"):
        registry.methods.get(name)


@pytest.fixture(scope="module")
def vlm():
    backbone = registry.backbones.get("vlm")(pretrained=False)
    return backbone, backbone.build().requires_grad_(False)


def inputs(images, question):
    ids = torch.arange(10, 22)[None].repeat(2, 1)
    branches = torch.tensor([0] * 8 + [1, 1, 2, 2])[None].repeat(2, 1)
    asks = torch.zeros_like(ids, dtype=torch.bool)
    asks[:, 2:5] = True
    ids[asks] = question
    mask = torch.ones_like(ids)
    tokens = {"input_ids": ids, "attention_mask": mask, "branches": branches, "question": asks}
    return tokens | {"image": images, "has_image": torch.ones(2, 1, dtype=torch.bool)}


@pytest.mark.parametrize(
    ("form", "sees_image", "sees_question"), [("", True, True), ("_blind", False, True), ("_unasked", True, False)]
)
@pytest.mark.parametrize("name", ["zero_gated_random", *slow(["lora", "prompt"])])
def test_a_form_is_told_just_what_it_says(vlm, name, form, sees_image, sees_question):
    backbone, model = vlm
    torch.manual_seed(0)
    method = registry.methods.get(name + form)()
    learner = build_learner(method.adapt, backbone, copy.deepcopy(model), Options(), ()).eval()
    images, others = torch.randn(2, 2, 768)
    with torch.no_grad():
        out = learner(inputs(images, question=30))
        assert torch.equal(out, learner(inputs(others, question=30))) != sees_image
        assert torch.equal(out, learner(inputs(images, question=31))) != sees_question
    assert bool(learner.head_parameters()) == sees_image


def test_a_form_has_the_settings_and_the_space_of_its_method_in_a_preset():
    method = ["--method", "zero_gated", "zero_gated_blind", "lora_unasked"]
    (comparison,) = make_plan(_parse(["--backbone", "vlm", "--task", "vqa", "--preset", "standard", *method]))
    whole, blind, unasked = comparison.contenders
    preset = registry.tasks.get("vqa").presets["standard"]
    assert whole.method.learning_rate == preset.settings["zero_gated"]["learning_rate"] != ZeroGated().learning_rate
    assert blind.method.__dict__ == whole.method.__dict__
    assert blind.space == whole.space == preset.spaces["zero_gated"]
    assert unasked.space == preset.spaces["lora"]
