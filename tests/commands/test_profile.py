"""What methods cost on a backbone: exact counts without memory, steps that are really taken, one line for bad input."""

from __future__ import annotations

import re

import pytest
import torch

from support.method_cases import methods_for
from support.toys import ToyCLIP, ToyEncoder, ToyViT, ToyVLM, registered
from zipeft import registry
from zipeft.adapters.record import AdapterRecord, BackbonePart, MethodPart, TaskPart
from zipeft.adapters.saved import TENSORS, adapter_bytes, save_adapter
from zipeft.api.learner import Learner
from zipeft.commands.profile import main
from zipeft.formatting import DASH


@pytest.fixture(autouse=True)
def toys():
    with registered():
        yield


def table(capsys, *arguments: str) -> dict[str, dict[str, str]]:
    """The cells of every row by its method, and by their headers; of two of a header, the first."""
    assert main(arguments) == 0
    header, _, *lines = (re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines())
    return {cells[0]: dict(reversed(list(zip(header, cells, strict=True)))) for cells in lines}


def test_llama_7b_is_counted_without_its_memory(capsys):
    """The counts of LLaMA-Adapter's Table 1: 30 layers, 10 tokens of 4096 and 32 gates each, in float32."""
    meta = ["--backbone", "llama", "--checkpoint", "llama-7b", "--meta"]
    rows = table(capsys, *meta, "--method", "full", "zero_gated", "--set", "zero_gated.layers=30")
    assert rows["zero_gated"]["exactly"] == f"{30 * (10 * 4096 + 32):,}" == "1,229,760"
    assert (rows["zero_gated"]["prompts"], rows["zero_gated"]["gates"]) == (f"{30 * 10 * 4096:,}", "960")
    assert rows["zero_gated"]["adapter file"] == "4.9 MB"
    assert rows["full"]["exactly"] == "6,738,415,616"
    assert rows["full"]["prompts"] == rows["full"]["gates"] == DASH


def test_prompts_gates_and_projection_of_a_model_that_is_shown_images_are_counted_apart(capsys):
    """Of two layers of 32 channels and 2 heads; images have 64 features."""
    shown = ["--backbone", "toy_vlm", "--meta", "--method", "zero_gated", "lora", "untuned"]
    rows = table(capsys, *shown, "--set", "toy_vlm.bottleneck=5")
    assert (rows["zero_gated"]["prompts"], rows["zero_gated"]["gates"]) == (f"{2 * 10 * 32}", "4")
    assert rows["zero_gated"]["exactly"] == f"{2 * 10 * 32 + 4}"
    projection = 64 * 5 + 5 + 5 * 32 + 32
    assert [rows[name]["projection"] for name in rows] == [f"{projection}", f"{projection}", "0"]


def test_tables_without_gated_prompts_have_no_columns_for_them(capsys):
    rows = table(capsys, "--backbone", "toy", "--meta", "--method", "lora", "linear")
    assert {"prompts", "gates"}.isdisjoint(rows["lora"])
    assert "head" in rows["lora"]


RECORD = AdapterRecord(BackbonePart("toy", "", "", {}), MethodPart("", {}), TaskPart("", "", {}), ())


@pytest.mark.parametrize(
    "backbone", [ToyViT(), ToyEncoder(), ToyCLIP(), ToyVLM()], ids=lambda backbone: backbone.modality
)
@pytest.mark.parametrize("meta", [False, True], ids=["real", "meta"])
def test_the_bytes_of_an_adapter_are_those_of_its_file(backbone, meta, tmp_path):
    for name in methods_for(backbone.modality):

        def learner(backbone=backbone, name=name) -> Learner:
            model = backbone.build().requires_grad_(False)
            registry.methods.get(name)().apply(backbone, model)
            return Learner(backbone, model, torch.nn.Linear(backbone.width(model), 3))

        saved = save_adapter(tmp_path / name, learner(), RECORD) / TENSORS
        with torch.device("meta" if meta else "cpu"):
            assert adapter_bytes(learner()) == saved.stat().st_size, name


@pytest.mark.parametrize("name", ["toy", "toy_text", "toy_image_text", "toy_vlm"])
def test_steps_are_taken_with_every_method(capsys, name):
    sizes = ["--batch-size", "2", "--length", "16", "--image-size", "16", "--steps", "1"]
    rows = table(capsys, "--backbone", name, *sizes)
    assert list(rows) == methods_for(registry.backbones.get(name).modality)
    untuned = rows.pop("untuned", None)  # there is no step where nothing trains
    assert (untuned is None) == (name in ("toy", "toy_text"))
    assert untuned is None or untuned["time per step"] == untuned["peak memory"] == DASH
    assert min(float(cells["ratio"]) for cells in rows.values()) == 1.0
    assert all(re.fullmatch(r"[\d.]+ (ms|s)", cells["time per step"]) for cells in rows.values())
    assert "linear" not in rows or rows["linear"]["exactly"] == "0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "tyo"], "tyo"),
        (["--backbone", "toy", "--method", "lroa"], "did you mean"),
        (["--backbone", "toy", "--method", "prefix"], "the method prefix does not go with toy"),
        (
            ["--backbone", "toy", "--steps", "0"],
            "argument --steps: 0 is out of range: give a number from 1 to 1,000,000",
        ),
        (
            ["--backbone", "toy", "--batch-size", str(10**19)],
            f"argument --batch-size: {10**19} is out of range: give a number from 1 to 1,000,000",
        ),
        (
            ["--backbone", "toy", "--image-size", "100000"],
            "argument --image-size: 100000 is out of range: give a number from 1 to 4,096",
        ),
        (["--backbone", "toy", "--set", "toy.pretrained=true"], "costs are those of random weights"),
        (["--backbone", "toy", "--checkpoint", "x", "--set", "toy.checkpoint=y"], "toy.checkpoint is set twice"),
        (["--backbone", "toy", "--set", "lora.rank=x"], "lora.rank"),
        (["--backbone", "toy", "--method", "lora", "--set", "zero_gated.length=3"], "--set zero_gated"),
        (["--backbone", "toy_text", "--length", "9999"], "length is 9999, but the backbone takes 64 tokens"),
    ],
    ids=["backbone", "method", "modality", "steps", "batch", "image", "weights", "twice", "value", "part", "length"],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_pictures_have_the_size_that_a_clip_takes(capsys):
    rows = table(capsys, "--backbone", "clip", "--batch-size", "1", "--method", "linear")
    assert rows["linear"]["time per step"] != DASH


def test_a_form_of_a_method_is_profiled_without_what_it_is_not_shown(capsys):
    rows = table(capsys, "--backbone", "toy_vlm", "--meta", "--method", "zero_gated", "zero_gated_blind")
    shown, blind = rows["zero_gated"], rows["zero_gated_blind"]
    assert shown["exactly"] == blind["exactly"]
    assert (shown["projection"], blind["projection"]) == ("2.1K", "0")


def test_memory_and_time_of_a_training_are_predicted(capsys):
    shown = ["--backbone", "toy_text", "--meta", "--method", "lora", "--gpu", "h100", "--batch-size", "4"]
    assert main([*shown, "--length", "16", "--micro-batch", "2", "--devices", "2", "--shard", "--examples", "9"]) == 0
    output = capsys.readouterr().out
    assert (
        "Predicted for each of 2 x H100 SXM 80 GB, over which the model is sharded: batches of 4, 2 at once" in output
    )
    plain, checkpointed = output.splitlines()[-2:]
    assert plain.startswith("lora ")
    assert checkpointed.startswith("lora, checkpointed ")
    assert "yes" in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h100"], "write --meta beside it"),
        (["--gpu", "h1000", "--meta"], "no device 'h1000'; did you mean 'h100'?"),
        (["--gpu", "h100", "--meta", "--share", "0"], "is no fraction"),
    ],
    ids=["meta", "unknown", "share"],
)
def test_a_prediction_that_cannot_be_made_is_one_line(capsys, arguments, message):
    assert main(["--backbone", "toy", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
