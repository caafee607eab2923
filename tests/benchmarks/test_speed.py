"""What prompts cost in time, as a ratio to the frozen backbone, which is the floor.

Run with ``pytest -m slow tests/benchmarks``; OMP_NUM_THREADS sets the threads. The frozen backbone is timed before each
round of each variant, so that both see the same state of a busy machine; the ratio is that of the fastest rounds, for
noise only adds. Nothing is asserted of time; what is asserted is that every layer computes its prompt's term. PyTorch
has an inference path for ``nn.MultiheadAttention`` that a joined layer cannot take: part of open_clip's ratio in the
forward alone is that.
"""

from __future__ import annotations

import os
import time

import pytest
import torch
from torch import nn

from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt
from zipeft.splices import attach

pytestmark = pytest.mark.slow

ROUNDS = 15


def llama() -> nn.Module:
    import transformers

    size = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 4, "vocab_size": 1000}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, **heads))


def vit() -> nn.Module:
    import timm

    return timm.create_model("vit_small_patch16_224", img_size=112, num_classes=0)


def clip_image_tower() -> nn.Module:
    import open_clip

    vision = {"image_size": 112, "patch_size": 16, "width": 384, "layers": 6, "head_width": 64}
    text = {"vocab_size": 1000, "context_length": 16, "width": 64, "heads": 1, "layers": 1}
    return open_clip.model.CLIP(embed_dim=256, vision_cfg=vision, text_cfg=text).visual


BACKBONES = {  # how to build it, a batch, and how many layers have attention
    "timm vit_small, 112 px, batch 8": (vit, lambda: torch.randn(8, 3, 112, 112), 12),
    "llama 4 layers, 512 wide, batch 2, 128 tokens": (llama, lambda: torch.randn(2, 128, 512), 4),
    "open_clip 6 layers, 384 wide, 112 px, batch 8": (clip_image_tower, lambda: torch.randn(8, 3, 112, 112), 6),
}


def zero_gated(model: nn.Module, length: int) -> nn.Module:
    attach(model, length=length)
    return model


def adaption_prompt(model: nn.Module, length: int) -> nn.Module:
    peft = pytest.importorskip("peft")
    layers = model.config.num_hidden_layers
    config = peft.AdaptionPromptConfig(adapter_len=length, adapter_layers=layers, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)


VARIANTS = {  # what it does to a model, and the length of its prompts
    "frozen": (lambda model, length: model, 0),  # against itself: how far from 1 noise alone gets
    "zero_gated K=10": (zero_gated, 10),
    "zero_gated K=50": (zero_gated, 50),
    "peft AdaptionPrompt K=10": (adaption_prompt, 10),
}


def assert_has_prompts(model: nn.Module, run, x: torch.Tensor, layers: int, length: int) -> None:
    """Compare the prompts that a step computes, each once, with those that the variant's name promises."""
    computed = []

    def count(module, *_) -> None:
        tokens = module.prompt if isinstance(module, ZeroGatedPrompt) else module.adaption_prompt[0]
        computed.append(len(tokens))

    prompts = [m for m in model.modules() if isinstance(m, ZeroGatedPrompt) or hasattr(m, "adaption_prompt")]
    handles = [prompt.register_forward_hook(count) for prompt in prompts]
    run(model, x)
    for handle in handles:
        handle.remove()
    assert computed == ([length] * layers if length else [])


def frozen(build) -> nn.Module:
    torch.manual_seed(0)
    return build().requires_grad_(False).eval()


def call(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return model(inputs_embeds=x, use_cache=False).logits if hasattr(model, "config") else model(x)


def forward(model: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        call(model, x)


def forward_and_backward(model: nn.Module, x: torch.Tensor) -> None:
    """The input takes a gradient, so that the frozen backbone has the whole way back to go as well."""
    call(model, x.requires_grad_()).square().mean().backward()
    x.grad = None
    model.zero_grad(set_to_none=True)


STEPS = {"forward": forward, "forward and backward": forward_and_backward}
CASES = [(b, v) for b in BACKBONES for v in VARIANTS if not v.startswith("peft") or b.startswith("llama")]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("backbone", "variant"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_time_as_a_ratio_to_the_frozen_backbone(benchmark, capsys, backbone, variant, step):
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    (build, batch, layers), (change, length) = BACKBONES[backbone], VARIANTS[variant]
    floor, model, x = frozen(build), change(frozen(build), length), batch()
    run, floors = STEPS[step], []
    run(floor, x)
    assert_has_prompts(model, run, x, layers, length)

    def time_the_floor() -> None:
        start = time.perf_counter()
        run(floor, x)
        floors.append(time.perf_counter() - start)

    benchmark.group = f"{backbone}: {step}"
    benchmark.pedantic(run, args=(model, x), setup=time_the_floor, rounds=ROUNDS, warmup_rounds=2)
    ratio = benchmark.stats.stats.min / min(floors)
    benchmark.extra_info.update({"ratio to frozen": ratio, "threads": torch.get_num_threads()})
    with capsys.disabled():
        print(f"\n{backbone}, {step}, {variant}: {ratio:.3f} of the frozen backbone's {1000 * min(floors):.1f} ms")


def visual_step(method: str):
    """A training step of a method on the embedded architecture of ``vlm``: questions with four options, in a batch."""
    from zipeft import registry
    from zipeft.api.learner import build_learner
    from zipeft.objectives.options import Options

    torch.manual_seed(0)
    backbone, objective = registry.backbones.get("vlm")(pretrained=False), Options()
    adapt = registry.methods.get(method)().adapt
    learner = build_learner(adapt, backbone, backbone.build().requires_grad_(False), objective, ()).train()
    optimizer = torch.optim.AdamW(learner.trainable().values())
    batch = backbone.random_batch(16, length=36)
    del batch["labels"]
    batch["branches"] = torch.tensor([0] * 24 + [number for number in (1, 2, 3, 4) for _ in range(3)]).repeat(16, 1)

    def step() -> None:
        optimizer.zero_grad()
        objective.loss(learner(batch), torch.zeros(16, dtype=torch.long)).backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("method", ["zero_gated", "zero_gated_early", "zero_gated_v2", "lora"])
def test_a_step_with_images_as_a_ratio_to_the_same_text_without(benchmark, capsys, method):
    """Features of images are made before training, so a step pays for how they enter alone."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    blind, seeing, floors = visual_step(f"{method}_blind"), visual_step(method), []

    def time_the_floor() -> None:
        start = time.perf_counter()
        blind()
        floors.append(time.perf_counter() - start)

    benchmark.group = "vlm, batch 16, 36 tokens: training step"
    benchmark.pedantic(seeing, setup=time_the_floor, rounds=ROUNDS // 3, warmup_rounds=1)
    ratio = benchmark.stats.stats.min / min(floors)
    benchmark.extra_info.update({"ratio to text alone": ratio, "threads": torch.get_num_threads()})
    with capsys.disabled():
        print(f"\nvlm, training step, {method}: {ratio:.3f} of the {1000 * min(floors):.0f} ms without the image")
