"""What a step takes on a GPU beside the frozen backbone's, the floor: it is reported, and nothing asserted of time."""

from __future__ import annotations

import time
from statistics import median

import pytest
import timm
import torch
import transformers
from torch import nn

from zipeft.formatting import duration, size
from zipeft.splices import attach

pytestmark = pytest.mark.gpu

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def llama() -> nn.Module:
    sizes = {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 8, "vocab_size": 1000}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_attention_heads=16))


def vit() -> nn.Module:
    return timm.create_model("vit_base_patch16_224", num_classes=0)


MODELS = {  # how to build it, and a batch on a GPU and on the CPU
    "LLaMA, 8 layers, 1024 wide": (llama, (16, 512, 1024), (1, 16, 1024)),
    "ViT-B/16": (vit, (64, 3, 224, 224), (1, 3, 224, 224)),
}


def frozen(model: nn.Module) -> None:
    """Leave it as it is: the input takes a gradient, which has the whole way back to go."""


def gated(model: nn.Module) -> None:
    attach(model, length=10)


VARIANTS = {"frozen": frozen, "zero_gated, K=10": gated}


def step(model: nn.Module, x: torch.Tensor) -> None:
    output = model(inputs_embeds=x, use_cache=False).logits if hasattr(model, "config") else model(x)
    output.float().square().mean().backward()
    x.grad = None
    model.zero_grad(set_to_none=True)


def measured(model: nn.Module, x: torch.Tensor, rounds: int) -> tuple[float, int]:
    """Return the median seconds of a step, and the most bytes that were allocated beside what was there before."""
    step(model, x)
    on_gpu, seconds = x.device.type == "cuda", []
    before = torch.cuda.memory_allocated() if on_gpu else 0
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(rounds):
        start = time.perf_counter()
        step(model, x)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds), torch.cuda.max_memory_allocated() - before if on_gpu else 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_beside_the_frozen_floor(name, precision, device, report):
    build, *shapes = MODELS[name]
    shape = shapes[device.type == "cpu"]
    found = {}
    for variant, change in VARIANTS.items():
        torch.manual_seed(0)
        with device:
            model = build().to(PRECISIONS[precision]).requires_grad_(False).eval()
            change(model)
            x = torch.randn(shape).to(PRECISIONS[precision]).requires_grad_()
        found[variant] = measured(model, x, rounds=10 if device.type == "cuda" else 1)
        del model, x
    seconds, memory = found["frozen"]
    for variant, (own, peak) in found.items():
        report.add(
            "A training step beside the frozen floor",
            model=name,
            batch=" x ".join(map(str, shape)),
            precision=precision,
            variant=variant,
            step=duration(own),
            ratio=f"{own / seconds:.3f}",
            peak=size(peak),
            memory=f"{peak / memory:.3f}" if memory else "",
        )
    assert all(seconds > 0 for seconds, _ in found.values())
