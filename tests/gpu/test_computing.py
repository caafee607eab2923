"""What a gated model computes on a GPU: its start, its kernels, compiled, and with a cache."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import pytest
import torch
from accelerate.utils import send_to_device
from torch.nn.attention import SDPBackend, sdpa_kernel

from support.experiments import experiment, run
from support.fitting import CASES, fit_of
from support.model_zoo import ordinary_path
from support.toys import ToyDecoder, ToyInstructions
from zipeft.doctor.attention import recorded
from zipeft.doctor.self_test import TOLERANCES, accelerated
from zipeft.training.frozen_model import storages

pytestmark = pytest.mark.gpu

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FUSED = {
    "cpu": [SDPBackend.FLASH_ATTENTION],
    "cuda": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION],
}
GATED = [case for case in CASES if case[1] == "zero_gated"]


def autocast(device, precision):
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, DTYPES[precision])


def batch_of(fit, device, size=6):
    """Return some inputs, of different lengths where they are texts."""
    return send_to_device(fit.train.inputs(range(size)), device)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("toy", "method"), [case for case in CASES if "gated" in case[1]])
def test_at_zero_gate_the_model_is_the_frozen_one(toy, method, precision, device):
    gated, frozen = fit_of(toy, method), fit_of(toy, "full" if toy in ("toy", "toy_text") else "untuned")
    if not gated.method.starts_at_frozen_model:
        pytest.skip("its gates do not start at zero")
    outputs = []
    for fit in (gated, frozen):
        learner = fit.learner.to(device).eval()
        with torch.no_grad(), autocast(device, precision), ordinary_path():
            outputs.append(gated.objective.read(learner.backbone, learner.model, batch_of(fit, device)))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize(("toy", "method"), GATED)
def test_attention_takes_a_fused_kernel(toy, method, precision, device, report):
    fit = fit_of(toy, method)
    learner = fit.learner.to(device).train()
    with recorded() as kernels, sdpa_kernel(FUSED[device.type]), autocast(device, precision):
        learner(batch_of(fit, device)).float().square().mean().backward()
    report.add("Attention kernels", backbone=toy, precision=precision, kernels=", ".join(sorted(set(kernels))))
    assert kernels
    assert "plain" not in kernels


@pytest.mark.parametrize(("toy", "method"), [*GATED, ("toy_instruct", "lora")])
def test_compiled_and_eager_agree(toy, method, device):
    if device.type == "cuda" and not shutil.which("cc"):
        pytest.skip("torch.compile needs a C compiler")
    torch._dynamo.reset()
    fit = fit_of(toy, method)
    learner = fit.learner.to(device)
    inputs = batch_of(fit, device)
    compiled = torch.compile(learner, backend="inductor" if device.type == "cuda" else "aot_eager")
    found = []
    for model in (learner, compiled):
        learner.zero_grad()
        outputs = model(inputs)
        outputs.float().square().mean().backward()
        found.append((outputs.detach(), [p.grad.clone() for p in learner.trainable().values() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("toy", "method"), [case for case in CASES if case[0] in ("toy_instruct", "toy_vlm")])
def test_generation_with_a_cache_is_that_without(toy, method, device):
    fit = fit_of(toy, method)
    learner = fit.learner.to(device).eval()
    prompts = learner.backbone.prompt_ids(batch_of(fit, device))
    cached, anew = (
        learner.backbone.generate(learner.model, prompts, 8, use_cache=use_cache) for use_cache in (True, False)
    )
    assert cached == anew
    assert any(cached)


def test_runs_share_the_frozen_weights(device):
    with accelerated(device, "fp32") as accelerator:
        made = experiment(ToyDecoder(), ToyInstructions(examples=16), accelerator, epochs=1, batch_size=8)
        learners = [made.measure(run("summaries", method))[1] for method in ("zero_gated", "lora")]
        frozen = set(storages(made.frozen.model))
    assert all(frozen <= set(storages(learner.model)) for learner in learners)
    assert {parameter.device.type for learner in learners for parameter in learner.parameters()} == {device.type}
