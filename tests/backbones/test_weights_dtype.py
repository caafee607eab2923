"""Frozen weights in lower dtypes: every method on every kind of backbone trains in float32, or refuses in one line."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import psutil
import pytest
import torch
from torch import nn

from support import experiments
from support.method_cases import covered, methods_for, slow
from support.toys import TOYS, ToyDecoder, ToyViT, registered
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import load_adapter, save_adapter
from zipeft.api.learner import build_learner
from zipeft.api.settings import as_json, from_json, override
from zipeft.backbones.llama.backbone import Llama
from zipeft.doctor.self_test import accelerated
from zipeft.errors import UserError
from zipeft.modules.quantised_linear import quantise
from zipeft.modules.weights_dtype import parameter_count
from zipeft.registry import Named
from zipeft.training.batches import ordered_batches
from zipeft.training.dataset import encode
from zipeft.training.frozen_model import FrozenModel, storages

DTYPES = ("bf16", "fp16", "int8", "nf4")
TORCH = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8, "nf4": torch.uint8}
QUANTISED = ("int8", "nf4")
REFUSED = {(method, dtype) for method in ("full", "bitfit", "zero_gated_v2") for dtype in QUANTISED}
CASES = [
    (name, (method, dtype))
    for name, (backbone, _) in TOYS.items()
    for method in methods_for(backbone.modality)
    for dtype in DTYPES
]


def skip_without(dtype):
    if dtype in QUANTISED:
        pytest.importorskip("bitsandbytes")


@cache
def prepared(name, dtype):
    """Return a backbone, its frozen model, a task's objective and classes, and a batch."""
    skip_without(dtype)
    backbone, task = TOYS[name][0](dtype=dtype), TOYS[name][1]()
    (dataset,) = task.datasets()
    data = task.load_for(dataset, backbone)
    batch = next(iter(ordered_batches(encode(data.train, task.windows(backbone), backbone), 4)))[0].content
    return backbone, FrozenModel(backbone.load()), task.objective(dataset, data.classes), data.classes, batch


def built(name, method, dtype):
    torch.manual_seed(0)
    backbone, frozen, objective, classes, _ = prepared(name, dtype)
    method = registry.methods.get(method)()
    learner = build_learner(method.adapt, backbone, frozen.copy(), method.objective(objective), classes)
    frozen.part(learner)
    return learner


def dtypes(model):
    return {name: parameter.dtype for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(("name", "lowered"), covered(CASES), ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_a_method_trains_in_float32_above_lower_weights_or_refuses_in_one_line(name, lowered):
    method, dtype = lowered
    _, frozen, objective, _, batch = prepared(name, dtype)
    of_frozen = dtypes(frozen.model)
    if (method, dtype) in REFUSED:
        with pytest.raises(UserError, match=rf"^{method} .*{dtype} [^\n]+take dtype=") as refusal:
            built(name, method, dtype)
        assert "\n" not in str(refusal.value)
        return
    learner = built(name, method, dtype)
    if trainable := learner.trainable():
        objective = registry.methods.get(method)().objective(objective)
        inputs = {key: value for key, value in batch.items() if key != "targets"}
        for _ in range(2):
            learner.zero_grad()
            objective.loss(learner.train()(**inputs), batch["targets"]).backward()
            gradients = [parameter.grad for parameter in trainable.values() if parameter.grad is not None]
            assert gradients
            assert all(each.isfinite().all() and each.dtype == torch.float32 for each in gradients)
            torch.optim.SGD(trainable.values(), lr=1e-3).step()
        assert any(each.abs().max() > 0 for each in gradients)
        assert all(parameter.dtype == torch.float32 for parameter in trainable.values())
    with torch.no_grad():
        learner.eval()(**inputs if trainable else {key: value for key, value in batch.items() if key != "targets"})
    shared = storages(frozen.model)
    for key, parameter in learner.model.named_parameters():
        assert parameter.requires_grad or parameter.untyped_storage().data_ptr() in shared, key
    of_learner = {key: p.dtype for key, p in learner.model.named_parameters() if not p.requires_grad}
    assert all(of_frozen.get(key, found) == found for key, found in of_learner.items())
    assert dtypes(frozen.model) == of_frozen
    assert not frozen.changed()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TOYS)
def test_matrices_are_held_in_the_dtype_and_vectors_in_float32(name, dtype):
    backbone, frozen, *_ = prepared(name, dtype)
    whole = TOYS[name][0]().load()
    found = list(frozen.model.parameters())
    assert TORCH[dtype] in {parameter.dtype for parameter in found}
    assert {parameter.dtype for parameter in found if parameter.dim() < 2} <= {torch.float32}
    assert torch.float32 not in {parameter.dtype for parameter in found if parameter.dim() > 1}
    assert parameter_count(frozen.model) == parameter_count(whole) == sum(p.numel() for p in whole.parameters())
    smaller = sum(storages(frozen.model).values()) / sum(storages(whole).values())
    assert smaller < (0.6 if dtype in ("bf16", "fp16") else 0.55)
    assert backbone.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TOYS)
def test_zero_gates_leave_a_lower_model_as_it_is_to_the_bit(name, dtype):
    *_, batch = prepared(name, dtype)
    frozen = "linear" if "linear" in methods_for(TOYS[name][0].modality) else "untuned"
    with torch.no_grad():
        plain, gated = (
            (learner := built(name, method, dtype).eval()).backbone.features(learner.model, batch["inputs"])
            for method in (frozen, "zero_gated")
        )
    assert torch.equal(plain, gated)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.03), ("fp16", 0.03), ("int8", 0.1), ("nf4", 0.3)])
@pytest.mark.parametrize("name", TOYS)
def test_lower_weights_compute_about_what_float32_does(name, dtype, tolerance):
    *_, batch = prepared(name, dtype)
    frozen = "linear" if "linear" in methods_for(TOYS[name][0].modality) else "untuned"
    with torch.no_grad():
        lower, whole = (
            (learner := built(name, frozen, each).eval()).backbone.features(learner.model, batch["inputs"]).float()
            for each in (dtype, "fp32")
        )
    assert 0 < (lower - whole).norm() / whole.norm() < tolerance


@pytest.mark.parametrize("name", ["zero_gated", *slow(["lora", "full"])])
def test_scores_on_bf16_weights_are_close_to_those_on_fp32(name):
    run = experiments.run("colours", name)
    whole, _ = experiments.experiment(ToyViT(), epochs=3, batch_size=8).measure(run)
    settings = {"epochs": 3, "batch_size": 8, "precision": "bf16"}
    with accelerated(torch.device("cpu"), "bf16") as lower_on:
        lower, learner = experiments.experiment(ToyViT(dtype="bf16"), accelerator=lower_on, **settings).measure(run)
    assert lower.score == pytest.approx(whole.score, abs=0.1)
    assert lower.history[-1].train_loss == pytest.approx(whole.history[-1].train_loss, rel=0.1)
    assert lower.backbone.settings["dtype"] == "bf16"
    assert lower.backbone.parameters == whole.backbone.parameters
    assert "dtype" not in whole.backbone.settings
    assert lower.id != whole.id
    assert all(parameter.dtype == torch.float32 for parameter in learner.trainable().values())


def test_the_setting_is_no_part_of_records_at_its_default():
    assert as_json(ToyViT()) == {"checkpoint": "", "pretrained": True}
    assert as_json(ToyViT(dtype="nf4")) == {"checkpoint": "", "pretrained": True, "dtype": "nf4"}
    for backbone in (ToyViT(), ToyViT(dtype="int8")):
        assert from_json(ToyViT, as_json(backbone)) == backbone
    assert override(Llama, {"dtype": "bf16"}).dtype == "bf16"
    with pytest.raises(UserError, match="one of fp32, bf16, fp16, int8, nf4"):
        override(Llama, {"dtype": "int4"})


def test_lower_weights_are_not_computed_with_in_fp32():
    with pytest.raises(UserError, match=r"^toy\.dtype is bf16, and precision is fp32: set --precision bf16 or fp16$"):
        experiments.comparison(ToyViT(dtype="bf16"))


def test_a_saved_adapter_knows_the_dtype_that_it_was_made_for(tmp_path):
    backbone, _, _, classes, batch = prepared("toy", "bf16")
    learner = built("toy", "lora", "bf16").eval()
    parts = Named("toy", backbone), Named("lora", registry.methods.get("lora")()), Named("toy", TOYS["toy"][1]())
    save_adapter(tmp_path, learner, AdapterRecord.of(*parts, "colours", classes))
    with registered(), torch.no_grad():
        again, record = load_adapter(tmp_path)
        assert record.backbone.settings["dtype"] == again.backbone.dtype == "bf16"
        assert torch.equal(again(batch["inputs"]), learner(batch["inputs"]))
        with pytest.raises(UserError, match="was made for dtype bf16, not for fp32"):
            load_adapter(tmp_path, replace(backbone, dtype="fp32"))


def test_where_there_is_no_memory_quantised_weights_are_counted_as_they_are():
    with torch.device("meta"):
        model = ToyDecoder(dtype="nf4").load()
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert parameter_count(model) == parameter_count(ToyDecoder().load())


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 96), (576, 192), (32, 96), (96, 64), (160, 64)])
@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.02), ("nf4", 0.12)])
def test_a_quantised_layer_is_as_close_as_its_bits_allow_or_is_left_alone(kind, tolerance, inputs, outputs):
    skip_without(kind)
    torch.manual_seed(0)
    whole = nn.Linear(inputs, outputs).requires_grad_(False)
    part = nn.ModuleList([whole, nn.Linear(64, 64)])  # the other one is always quantised
    quantise([part], kind, torch.device("cpu"))
    x = torch.randn(64, inputs)
    expected = nn.functional.linear(x, whole.weight, whole.bias)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = part[0](x).float()
    assert (found - expected).norm() / expected.norm() < tolerance
    assert (part[0] is whole) == (kind == "nf4" and inputs % 64 > 0)


# --- LLaMA-7B's layers ------------------------------------------------------------------------------------------------

SEVEN_B = {"hidden_size": 4096, "intermediate_size": 11_008, "num_attention_heads": 32, "vocab_size": 256}


@cache
def layers_of_7b():
    """Two layers of LLaMA-7B's shapes at random weights, held in bfloat16: 405 million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SEVEN_B, num_hidden_layers=2, dtype=torch.bfloat16)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    for module in model.modules():
        if "Norm" in type(module).__name__:
            module.float()
    return FrozenModel(model.requires_grad_(False).eval())


@pytest.mark.slow
@pytest.mark.parametrize("method", methods_for("instruction"))
def test_layers_of_llama_7b_take_real_steps_on_a_cpu(method):
    frozen, backbone = layers_of_7b(), Llama(dtype="bf16")
    weights = sum(storages(frozen.model).values())
    if method == "full" and psutil.virtual_memory().available < 5 * 2 * weights:  # itself, gradients, two moments
        pytest.skip("full fine-tuning of 405 million parameters takes 7 GB")
    method = registry.methods.get(method)()
    model = frozen.copy()
    torch.manual_seed(0)
    method.adapt(backbone, model)
    frozen.part(model)
    ids = torch.randint(3, 256, (2, 16))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        pytest.skip("nothing trains")
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    optimizer, losses = torch.optim.AdamW(parameters, lr=method.learning_rate / 10), []
    for _ in range(4):
        loss = -backbone.log_probs(model.train(), inputs)[:, :-1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert not frozen.changed()
    others = nn.ParameterList(p for p in model.parameters() if not p.requires_grad)
    assert storages(others).items() <= storages(frozen.model).items()
