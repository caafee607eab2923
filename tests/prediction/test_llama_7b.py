"""LLaMA-Adapter's training of LLaMA-7B fits into a small GPU, by prediction."""

from __future__ import annotations

import pytest
import torch

from zipeft import registry
from zipeft.api.learner import Learner, build_learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.objectives.default import default_objective
from zipeft.prediction.step import step_cost

pytestmark = pytest.mark.slow


def test_gated_prompts_on_frozen_weights_in_bf16_take_less_than_24_gb():
    backbone = registry.backbones.get("llama")(checkpoint="llama-7b", pretrained=False)
    method = registry.methods.get("zero_gated")(length=10, layers=30)

    def build() -> Learner:
        model = backbone.build().requires_grad_(False)
        learner = build_learner(method.adapt, backbone, model, method.objective(default_objective(backbone)), [])
        for parameter in learner.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
        return learner

    protocol = TrainingProtocol(batch_size=64, precision="bf16")
    cost = step_cost(
        build,
        lambda size: backbone.random_batch(size, length=512),
        method,
        protocol,
        micro_batch=4,
        checkpointing=True,
    )
    print(f"held {cost.held / 1e9:.2f} GB, peak {cost.peak / 1e9:.2f} GB")
    assert 13e9 < cost.held < cost.peak < 24e9
