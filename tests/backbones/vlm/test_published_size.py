"""LLaMA-7B with CLIP ViT-L/14 at LLaMA-Adapter's settings: exact counts of what trains, on a model without memory."""

from __future__ import annotations

import pytest
import torch

from zipeft.api.learner import build_learner
from zipeft.backbones.vlm import VLM
from zipeft.methods.zero_gated import ZeroGated
from zipeft.methods.zero_gated_v2 import ZeroGatedV2
from zipeft.objectives.options import Options

PROMPTS_AND_GATES = 30 * 10 * 4096 + 30 * 32  # 10 prompts in 30 of 32 layers, a gate for each of 32 heads

L14, B16 = "clip:ViT-L-14/openai", "clip:ViT-B-16/openai"


def counts(vision, blocks, bottleneck, method=ZeroGated(layers=30)):  # noqa: B008
    """Return how many parameters of a method train, and how many of the projection."""
    backbone = VLM(
        language="llama:llama-7b",
        vision=vision,
        vision_blocks=blocks,
        pooled="class",
        bottleneck=bottleneck,
        pretrained=False,
    )
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        learner = build_learner(method.adapt, backbone, model, Options(), ())
    assert all(parameter.is_meta for parameter in learner.model.parameters())
    parts = learner.method_parameters(), learner.head_parameters()
    return tuple(sum(parameter.numel() for parameter in part.values()) for part in parts)


@pytest.mark.parametrize(
    ("vision", "blocks", "width", "bottleneck", "rounded"),
    [
        (L14, (24,), 1024, 112, "1.81"),
        (L14, (12, 24), 2 * 1024, 96, "1.82"),
        (L14, (6, 12, 18, 24), 4 * 1024, 64, "1.76"),
        (L14, (4, 9, 14, 19, 24), 5 * 1024, 64, "1.82"),
        (B16, (2, 4, 6, 8, 10, 12), 6 * 768, 64, "1.79"),
        (L14, (24,), 1024, 0, "5.43"),
    ],
)
def test_what_trains_at_the_published_settings(vision, blocks, width, bottleneck, rounded):
    """A bottleneck of 48 to 112 channels comes to the published 1.8M; a linear projection is three times that."""
    method, projection = counts(vision, blocks, bottleneck)
    assert method == PROMPTS_AND_GATES == 1_229_760
    if bottleneck:
        assert projection == width * bottleneck + bottleneck + bottleneck * 4096 + 4096
    else:
        assert projection == width * 4096 + 4096
    assert f"{(method + projection) / 1e6:.2f}" == rounded


def test_what_trains_of_the_second_version():
    """Prompts of 20 in the first and 10 in the 31 others, gates, 65 norms, two vectors a linear layer."""
    method, _ = counts(L14, (24,), 0, ZeroGatedV2())
    prompts, norms = (20 + 31 * 10) * 4096, 65 * 4096
    assert method == prompts + 32 * 32 + norms + 32 * 2 * (5 * 4096 + 2 * 11_008) == 4_338_688


def test_an_encoder_without_memory_is_not_the_one_that_computes_features():
    backbone = VLM(pretrained=False, image_size=28)
    with torch.device("meta"):
        assert backbone.encoder.width == 768
    assert backbone.encoder._model.state_dict()
    assert not any(parameter.is_meta for parameter in backbone.encoder._model.parameters())
