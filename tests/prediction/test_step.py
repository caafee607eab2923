"""What a step is predicted to cost without weights is what it costs with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from support.method_cases import covered, methods_for
from support.toys import ToyCLIP, ToyEncoder, ToyViT, ToyVLM, registered
from zipeft import registry
from zipeft.api.learner import Learner, build_learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.objectives.default import default_objective
from zipeft.prediction.arithmetic import Arithmetic
from zipeft.prediction.live_memory import LiveMemory
from zipeft.prediction.step import step_cost, taken

PROTOCOL = TrainingProtocol(batch_size=4)
BACKBONES = {each.modality: each for each in (ToyViT(), ToyEncoder(), ToyCLIP(), ToyVLM())}


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


def learner(modality: str, name: str) -> Learner:
    backbone, method = BACKBONES[modality], registry.methods.get(name)()
    objective = method.objective(default_objective(backbone))
    return build_learner(method.adapt, backbone, backbone.build().requires_grad_(False), objective, ["a", "b"])


def inputs(modality: str, size: int):
    return BACKBONES[modality].random_batch(size, image_size=16, length=16)


def cost(modality: str, name: str, protocol: TrainingProtocol = PROTOCOL, **options):
    method = registry.methods.get(name)()
    return step_cost(lambda: learner(modality, name), lambda size: inputs(modality, size), method, protocol, **options)


@pytest.mark.parametrize(
    ("modality", "name"), covered((modality, name) for modality in BACKBONES for name in methods_for(modality))
)
def test_the_prediction_is_what_tensors_with_weights_take(modality, name):
    protocol = replace(PROTOCOL, precision="bf16")
    real, batch = learner(modality, name), inputs(modality, 2)
    real.find_trunk(batch)
    real.train()
    measured = taken(real, batch, registry.methods.get(name)(), protocol, times=2)
    predicted = cost(modality, name, protocol, micro_batch=2, device="cpu")
    assert predicted.weights == measured.weights
    assert predicted.trainables == measured.trainables
    assert predicted.optimizer == pytest.approx(measured.optimizer, rel=0.01)
    assert predicted.flops == measured.flops > 0
    assert predicted.peak == pytest.approx(measured.peak, rel=0.02)


def test_what_is_held_all_the_time_is_what_is_counted_by_hand():
    model, values = ToyViT().build(), 4
    weights = sum(each.numel() for each in (*model.parameters(), *model.buffers()))
    head = 2 * ToyViT().width(model) + 2
    predicted = cost("image", "linear")
    assert sum(predicted.weights.values()) == values * weights
    assert predicted.trainables == predicted.gradients == values * head
    steps = 2  # AdamW counts them for the matrix and for the bias, beside two moments of each value
    assert predicted.optimizer == values * (2 * head + steps)
    assert predicted.held == values * (weights + 4 * head + steps)


@pytest.mark.parametrize("modality", BACKBONES)
def test_less_at_once_keeps_less_and_computes_no_less(modality):
    whole, parts = cost(modality, "lora"), cost(modality, "lora", micro_batch=1)
    assert parts.activations < whole.activations
    assert parts.held == whole.held
    assert parts.flops >= whole.flops


@pytest.mark.parametrize("modality", sorted({*BACKBONES} - {"image-instruction"}))
def test_checkpointing_keeps_less_and_computes_more(modality):
    plain, checkpointed = cost(modality, "zero_gated"), cost(modality, "zero_gated", checkpointing=True)
    assert checkpointed.activations < plain.activations
    assert plain.flops < checkpointed.flops < 1.6 * plain.flops


def test_what_nothing_refers_to_is_not_counted():
    with LiveMemory() as memory:
        held = torch.zeros(1000)
        for _ in range(3):
            _ = torch.zeros(500) + 1
        view = held[:10]
    assert memory.now == 4 * 1500  # the last sum is still there
    assert memory.peak == 4 * 2000
    assert view.untyped_storage().nbytes() == 4000


def test_arithmetic_is_that_of_the_counter_of_pytorch():
    model, x = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 3), torch.nn.Linear(6, 5)), torch.randn(2, 3, 8)
    with FlopCounterMode(display=False) as known, Arithmetic() as counted:
        model(x).sum().backward()
    assert counted.flops == known.get_total_flops() > 0


def test_attention_counts_the_same_fused_as_in_plain_products():
    query = torch.randn(2, 4, 6, 8, requires_grad=True)
    counts = []
    for backend in (torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.nn.attention.SDPBackend.MATH):
        with torch.nn.attention.sdpa_kernel(backend), Arithmetic() as counted:
            torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
        counts.append(counted.flops)
    assert counts[0] == pytest.approx(counts[1], rel=0.3)  # a fused backward pass computes the scores again
    assert counts[0] >= counts[1] > 0
