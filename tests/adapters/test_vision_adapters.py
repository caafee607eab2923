"""Adapters of models that are shown images: they hold the projection, and belong to one image encoder."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from support.pictures import refusal
from support.toys import registered
from support.vision_language import METHODS, batch_of, item, toy_vlm, trained
from zipeft import registry
from zipeft.adapters.formats.gated_prompts import GatedPrompts
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import load_adapter, read_tensors, save_adapter
from zipeft.api.task import Preset
from zipeft.registry import Named
from zipeft.vqa.task import VQATask


class ToyQuestions(VQATask):
    """Questions that are never loaded."""

    presets: ClassVar[dict[str, Preset]] = {}

    def datasets(self):
        return ("questions",)

    def load(self, dataset):
        raise NotImplementedError


@pytest.fixture(autouse=True)
def toys():
    registry.tasks.register("toy_questions", ToyQuestions)
    try:
        with registered():
            yield
    finally:
        registry.tasks.unregister("toy_questions")


def saved(folder, backbone, name):
    learner = trained(backbone, name)
    method = registry.methods.make(name)
    parts = Named("vlm", backbone), method, Named("toy_questions", ToyQuestions())
    return save_adapter(folder, learner, AdapterRecord.of(*parts, "questions", ())), learner


@pytest.mark.parametrize("name", METHODS)
def test_an_adapter_comes_back_with_its_projection(name, tmp_path):
    folder, learner = saved(tmp_path, toy_vlm(bottleneck=3, vision_blocks=(1, 4)), name)
    loaded, _ = load_adapter(folder)
    assert loaded.backbone == learner.backbone
    batch = batch_of(learner.backbone, [item(4, (2, 1), image=0, width=128), item(5, (1, 3), width=128)])
    with torch.no_grad():
        assert torch.equal(loaded(batch), learner(batch))
    projections = [key for key in read_tensors(folder) if "projection" in key]
    assert len(projections) == (0 if registry.methods.get(name).image_entry == "none" else 4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vision": "toy:other"}, "the backbone toy + toy (no checksum), not for toy + other (no checksum)"),
        ({"language": "toy_instruct:other"}, "the backbone toy + toy (no checksum), not for other + toy (no checksum)"),
        ({"image_size": 32}, "image_size 16, not for 32"),
        ({"vision_blocks": (2,)}, "vision_blocks [], not for [2]"),
        ({"pooled": "class"}, "pooled both, not for class"),
        ({"bottleneck": 7}, "bottleneck 0, not for 7"),
        ({"image_tokens": 2}, "image_tokens 1, not for 2"),
    ],
)
def test_an_adapter_of_another_encoder_is_refused_in_a_line(settings, says, tmp_path):
    folder, _ = saved(tmp_path, toy_vlm(), "zero_gated")
    load_adapter(folder, toy_vlm())
    assert f"made for {says}" in refusal(load_adapter, folder, toy_vlm(**settings))


@pytest.mark.parametrize("settings", [{}, {"visual_length": 10}])
def test_early_fusion_has_no_form_in_other_formats_unless_it_is_like_any_other(settings):
    learner = trained(toy_vlm(), "zero_gated_early_blind", **settings)
    if settings:
        assert GatedPrompts.of(learner).prompts.shape == (2, 10, 32)
    else:
        assert "one length" in refusal(GatedPrompts.of, learner)
    assert "was learnt" in refusal(GatedPrompts.of, trained(toy_vlm(), "zero_gated_v2"))
