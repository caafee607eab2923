"""Prompts beside what people use them with: peft, generation, checkpointing, compilation, files."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
import transformers
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional

from support.method_cases import slow
from support.model_zoo import ZOO, images, llama, mistral, native_clip, randomise, randomise_prompts, text, timm_vit
from zipeft.splices import attach, detach, gated_prompts


def frozen(model):
    return randomise(model).requires_grad_(False).eval()


def pair_with_peft(build):
    """Return one model under peft's AdaptionPrompt and its twin under ours, set up as peft has it and equal."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    ours = frozen(build(head_dim=8, attention_bias=False) if build is llama else build(head_dim=8))
    theirs = copy.deepcopy(ours)
    joined = randomise_prompts(attach(ours, length=5, layers=2, gate="layer", gate_activation="none"))
    config = peft.AdaptionPromptConfig(adapter_len=5, adapter_layers=2, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(theirs, config)
    adapted = [m for m in theirs.modules() if hasattr(m, "adaption_prompt")]
    with torch.no_grad():
        for layer, prompt in zip(adapted, joined, strict=True):
            layer.adaption_prompt.copy_(prompt.prompt[None])
            layer.adaption_gate.copy_(prompt.gate)
    return ours, theirs.train(), adapted


@pytest.mark.parametrize("build", [llama, mistral])
def test_equals_pefts_adaption_prompt(build):
    ours, theirs, _ = pair_with_peft(build)
    torch.testing.assert_close(ours(**text()).logits, theirs(**text()).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", [llama, mistral])
def test_learns_as_pefts_adaption_prompt_does(build):
    ours, theirs, adapted = pair_with_peft(build)
    inputs = text()
    optimisers = [torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2) for m in (ours, theirs)]
    for _ in range(3):
        losses = []
        for model, optimiser in zip((ours, theirs), optimisers, strict=True):
            logits = model(**inputs).logits
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), inputs["input_ids"][:, 1:].flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    for layer, prompt in zip(adapted, gated_prompts(ours), strict=True):
        torch.testing.assert_close(prompt.prompt, layer.adaption_prompt[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(prompt.gate, layer.adaption_gate, atol=1e-4, rtol=0)
    torch.testing.assert_close(ours(**inputs).logits, theirs(**inputs).logits, atol=1e-3, rtol=0)


LORA = {
    "llama": (llama, ["k_proj"], lambda model: model(**text()).logits),
    "llama all": (llama, ["q_proj", "k_proj", "v_proj", "o_proj"], lambda model: model(**text()).logits),
    "timm": (lambda: timm_vit(qk_norm=True), ["qkv", "attn.proj"], lambda model: model(images())),
    "timm_dinov3": (ZOO["timm_dinov3"].build, ["qkv", "attn.proj"], lambda model: model(images())),
    "timm_eva02": (ZOO["timm_eva02"].build, ["k_proj", "v_proj"], lambda model: model(images())),
    "open_clip": (native_clip, ["attn"], lambda model: ZOO["open_clip"].run(model)),
}


def with_lora(name, order):
    """Return the model with prompts and with LoRA of non-zero weights, joined in either order, and how to run it."""
    peft = pytest.importorskip("peft")
    build, targets, run = LORA[name]
    torch.manual_seed(0)
    model = frozen(build())
    config = peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False)
    for step in order:
        torch.manual_seed(1)
        if step == "lora":
            model = peft.inject_adapter_in_model(config, model)
        else:
            randomise_prompts(attach(model, length=3))
    for prompt in gated_prompts(model):
        prompt.requires_grad_(True)  # peft freezes whatever is not its own
    for path, module in model.named_modules():
        if name == "open_clip" and path.endswith("out_proj.lora_B.default"):
            nn.init.zeros_(module.weight)  # peft adds this product twice to nn.MultiheadAttention's output projection
    return model.eval(), run


@pytest.mark.parametrize("order", [("lora", "prompts"), ("prompts", "lora")], ids="-".join)
@pytest.mark.parametrize("name", LORA)
def test_a_prompt_goes_through_loras_projections(name, order):
    """The same as when LoRA's product is added to the frozen weights by hand."""
    model, run = with_lora(name, order)
    result = run(model)
    merged, _ = with_lora(name, ("prompts",))
    weights = dict(merged.named_parameters())
    changed = 0
    for path, module in model.named_modules():
        if hasattr(module, "lora_A"):
            product = module.lora_B["default"].weight @ module.lora_A["default"].weight * module.scaling["default"]
            weight = "in_proj_weight" if isinstance(module.base_layer, nn.MultiheadAttention) else "weight"
            weights[f"{path.replace('.base_layer', '')}.{weight}"].data += product
            changed += 1
    assert changed >= 2 * len(LORA[name][1])
    torch.testing.assert_close(result, run(merged), atol=2e-5, rtol=1e-5)
    result.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name.replace("out_proj.lora_", "") or "zero_gated" in parameter_name:
            assert (parameter.grad != 0).any(), parameter_name


@pytest.mark.parametrize("name", LORA)
def test_a_change_of_lora_drops_the_cache(name):
    """Another adapter, another scale, none at all, a merge: what is not a parameter changes projections too."""
    model, run = with_lora(name, ("lora", "prompts"))
    adapters = [module for module in model.modules() if hasattr(module, "lora_A")]
    before = None
    changes = {
        "no adapter": lambda module: module.enable_adapters(False),
        "the adapter": lambda module: module.enable_adapters(True),
        "half of it": lambda module: module.set_scale("default", 0.5),
        "merged": lambda module: module.merge(),
        "unmerged": lambda module: module.unmerge(),
    }
    for change, function in changes.items():
        with torch.no_grad():
            before = run(model)
            for module in adapters:
                function(module)
            cached, anew = run(model), run(copy.deepcopy(model))
        assert torch.equal(cached, anew), change
        assert change in ("merged", "unmerged") or not torch.equal(cached, before)


def decode(model, ids, steps):
    """Decode greedily without a key-value cache, the whole text anew for each token; return ids and logits."""
    logits = []
    with torch.no_grad():
        for _ in range(steps):
            logits.append(model(input_ids=ids, use_cache=False).logits[:, -1])
            ids = torch.cat([ids, logits[-1].argmax(-1, keepdim=True)], dim=1)
    return ids, torch.stack(logits)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "gemma3"])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_generation_with_a_cache_is_greedy_decoding_without(name, kernel):
    model = ZOO[name].frozen(kernel)
    ids = text(padded=0)["input_ids"]
    _, plain = decode(model, ids, 8)
    randomise_prompts(attach(model, length=3))
    expected, logits = decode(model, ids, 8)
    assert not torch.allclose(logits, plain, atol=0.1)
    settings = {"do_sample": False, "pad_token_id": 1, "output_logits": True, "return_dict_in_generate": True}
    generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, **settings)
    assert torch.equal(generated.sequences, expected)
    torch.testing.assert_close(torch.stack(generated.logits), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "gemma3"])
def test_texts_of_different_lengths_in_a_batch_are_as_alone(name, kernel, side):
    model = ZOO[name].frozen(kernel)
    randomise_prompts(attach(model, length=3))
    ids = text(padded=0)["input_ids"]
    lengths = (7, 4)
    real = (
        torch.arange(7) >= 7 - torch.tensor(lengths)[:, None]
        if side == "left"
        else text(padded=3)["attention_mask"] > 0
    )
    batch = torch.full_like(ids, 1)
    for row, n in enumerate(lengths):
        batch[row, real[row]] = ids[row, :n]
    positions = (real.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = model(input_ids=batch, attention_mask=real.long(), position_ids=positions).logits
        for row, n in enumerate(lengths):
            alone = model(input_ids=ids[row : row + 1, :n]).logits[0]
            torch.testing.assert_close(together[row, real[row]], alone, atol=1e-5, rtol=1e-5)


def gradients(model, run):
    model.zero_grad()
    output = run(model)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.requires_grad]


CHECKPOINTED = [name for name in ZOO if name != "torch_encoder"]


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_gradient_checkpointing_gives_the_same_gradients(name):
    """The recomputing form; the older reentrant one gives no gradient at all below a frozen embedding."""
    entry = ZOO[name]
    model = entry.frozen().train()
    randomise_prompts(attach(model, length=3))
    expected = gradients(model, entry.run)
    if hasattr(model, "gradient_checkpointing_enable"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.set_grad_checkpointing(True)
    projected = []
    for prompt in gated_prompts(model):
        prompt.register_forward_hook(lambda *_: projected.append(1))
    for result, gradient in zip(gradients(model, entry.run), expected, strict=True):
        torch.testing.assert_close(result, gradient, atol=1e-5, rtol=1e-5)
    assert len(projected) == 2 * len(gated_prompts(model)), "nothing was recomputed"


@pytest.mark.parametrize("name", ["llama", "roberta", "hf_vit", "timm_vit", "open_clip"])
def test_autocast_at_zero_gate_is_the_frozen_model(name):
    entry = ZOO[name]
    model = entry.frozen()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = entry.run(model)
        joined = attach(model, length=3)
        assert torch.equal(entry.run(model), expected)
        randomise_prompts(joined)
        result = entry.run(model)
        with torch.no_grad():
            torch.testing.assert_close(entry.run(model), result)
    assert all(g.dtype == torch.float32 and (g != 0).any() for g in gradients(model, entry.run))


def test_the_query_after_a_projection_of_lower_precision_meets_keys_of_its_own_dtype():
    """Autocast off and on again with caches filled: no keys of the other precision are reused."""
    model = ZOO["timm_qk_norm"].frozen()
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        full = model(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images())
        assert torch.equal(model(images()), full)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(model(images()), half)


@pytest.mark.slow
def test_a_joined_model_of_a_file_runs_in_a_new_process(tmp_path):
    model = ZOO["llama"].frozen()
    randomise_prompts(attach(model, length=3))
    with torch.no_grad():
        expected = model(**text()).logits
    torch.save((model, text(), expected), tmp_path / "model.pt")
    code = f"""
import torch
model, inputs, expected = torch.load({str(tmp_path / "model.pt")!r}, weights_only=False)
with torch.no_grad():
    torch.testing.assert_close(model(**inputs).logits, expected)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_saved_config_says_nothing_of_prompts(tmp_path):
    model = ZOO["llama"].frozen()
    attach(model, length=3)
    model.config.save_pretrained(tmp_path)
    assert "zipeft" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


@pytest.mark.parametrize("name", ["roberta", "hf_vit", "llama"])
def test_attention_weights_are_still_returned(name):
    """The words' weights, as before; they do not hold the prompt's."""
    entry = ZOO[name]
    model = entry.frozen("eager")
    before = model(**entry.inputs(), output_attentions=True).attentions
    attach(model, length=3)
    after = model(**entry.inputs(), output_attentions=True).attentions
    assert len(after) == 2
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("mode", [*slow([torch.enable_grad, torch.no_grad]), torch.inference_mode])
@pytest.mark.parametrize("name", ["llama", pytest.param("timm_vit", marks=pytest.mark.slow)])
def test_a_compiled_model_is_one_graph_which_sees_new_prompts(name, mode, monkeypatch):
    """With gradients and without, the first time that its kernel is met too."""
    registered = transformers.AttentionInterface._global_mapping
    monkeypatch.delitem(registered, "zipeft_sdpa", raising=False)
    entry, counter = ZOO[name], CompileCounter()
    torch._dynamo.reset()
    model, inputs = entry.frozen(), entry.inputs()
    joined = randomise_prompts(attach(model, length=3))
    compiled = torch.compile(lambda inputs: entry.output(model, inputs), backend=counter, fullgraph=True)
    with mode():
        before, expected = compiled(inputs), entry.output(model, inputs)
        torch.testing.assert_close(before, expected)
        with torch.no_grad():
            joined[0].prompt.mul_(2)
        after = compiled(inputs)
        torch.testing.assert_close(after, entry.output(model, inputs))
    assert not torch.allclose(after, before)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, "aot_eager") for name in ("llama", "timm_vit", "timm_qk_norm", "timm_dinov3", "roberta", "open_clip")]
    + [("llama", "inductor"), ("timm_vit", "inductor")],
)
def test_compiled_models_give_the_same(name, backend):
    entry = ZOO[name]
    torch._dynamo.reset()
    model = entry.frozen()
    joined = randomise_prompts(attach(model, length=3))
    expected, expected_gradients = entry.run(model), gradients(model, entry.run)
    compiled = torch.compile(lambda: entry.run(model), backend=backend)
    torch.testing.assert_close(compiled(), expected, atol=1e-4, rtol=1e-4)
    for result, gradient in zip(gradients(model, lambda _: compiled()), expected_gradients, strict=True):
        torch.testing.assert_close(result, gradient, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(compiled(), expected, atol=1e-4, rtol=1e-4)
        for prompt in joined:
            prompt.prompt.mul_(2)
        torch.testing.assert_close(compiled(), entry.run(model), atol=1e-4, rtol=1e-4)
    detach(model)
