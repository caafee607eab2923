"""The example distribution, installed for real: it is listed, found by name, and gives features."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from zipeft.errors import UserError
from zipeft.registry import Registry


@pytest.fixture
def hf_vit(example_plugin, monkeypatch):
    from zipeft.api.backbone import Backbone

    monkeypatch.syspath_prepend(str(example_plugin))
    return Registry("backbone", Backbone).get("hf_vit")


def test_it_is_listed_by_name(example_plugin, tmp_path):
    command = [sys.executable, "-m", "zipeft", "ls", "backbones"]
    environment = {**os.environ, "PYTHONPATH": str(example_plugin)}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("hf_vit ")]
    assert "ViTs of transformers" in line
    assert line.endswith("zipeft-hf-vit 0.1.0")


def test_features_of_a_random_model(hf_vit):
    import torch

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    for size in (64, 96):  # the configuration's own size, and one that the position table is resized to
        features = backbone.features(model, torch.randn(2, 3, size, size))
        assert features.shape == (2, backbone.width(model))
        assert torch.isfinite(features).all()
        assert not torch.equal(features[0], features[1])
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (backbone.weights().source, backbone.weights().checksum) == ("random", "")


def test_random_weights_are_the_same_every_time(hf_vit):
    import torch

    first, second = (hf_vit(pretrained=False).build().state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_blocks_are_what_the_data_pass_in_order(hf_vit):
    import torch

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    blocks = list(backbone.blocks(model))
    passed = []
    for block in blocks:
        block.register_forward_hook(lambda block, inputs, output: passed.append((block, inputs[0].shape, output)))
    backbone.features(model, torch.randn(1, 3, 64, 64))
    assert [block for block, _, _ in passed] == blocks
    tokens = backbone.leading_tokens(model) + (64 // 16) ** 2
    assert {shape for _, shape, _ in passed} == {(1, tokens, backbone.width(model))}
    assert all(output.shape == (1, tokens, backbone.width(model)) for _, _, output in passed)


def test_lora_adapts_two_layers_a_block(hf_vit):
    from peft import LoraConfig, inject_adapter_in_model

    backbone = hf_vit(pretrained=False)
    model = backbone.build()
    inject_adapter_in_model(LoraConfig(r=2, target_modules=list(backbone.lora_targets)), model)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 2 * len(backbone.blocks(model))


def test_image_transform_normalises(hf_vit):
    from PIL import Image

    transform = hf_vit(pretrained=False).image_transform(32)
    white = transform(Image.new("RGB", (32, 32), "white"))
    assert white.shape == (3, 32, 32)
    assert white.min() == white.max() == 1.0


def test_checkpoint_folder_is_loaded_and_recorded(hf_vit, tmp_path):
    import torch
    from transformers import ViTImageProcessor

    model = hf_vit(pretrained=False).build()
    with torch.no_grad():
        model.layernorm.bias.fill_(3.0)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(image_mean=[0.0] * 3, image_std=[1.0] * 3).save_pretrained(tmp_path)
    backbone = hf_vit(checkpoint=str(tmp_path))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(backbone.features(backbone.build(), images), backbone.features(model, images))
    assert backbone.weights().source == "local folder"
    before = backbone.weights().checksum
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    assert len(before) == 64
    assert backbone.weights().checksum != before
    shape_alone = hf_vit(checkpoint=str(tmp_path), pretrained=False).build()
    assert not torch.equal(shape_alone.layernorm.bias, model.layernorm.bias)


def test_checkpoint_that_cannot_be_had_is_one_line(hf_vit, tmp_path):
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path)
    reasons = {"no/such-model": "cannot be loaded", "a/b/c": "cannot be loaded", str(tmp_path): "is a bert"}
    for checkpoint, reason in reasons.items():
        for act in (hf_vit(checkpoint=checkpoint).build, hf_vit(checkpoint=checkpoint, pretrained=False).weights):
            with pytest.raises(UserError, match=reason) as raised:
                act()
            assert repr(checkpoint) in str(raised.value)
            assert "\n" not in str(raised.value)


def test_every_method_runs_on_it_from_the_command_line(example_plugin, tmp_path):
    """What a third party gets for a page of code: the whole comparison, by name, in a process of its own."""
    from transformers import ViTConfig, ViTImageProcessor

    from support.pictures import save_noisy

    ViTConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=2).save_pretrained(tmp_path / "small")
    ViTImageProcessor().save_pretrained(tmp_path / "small")
    for label, color in {"red": "red", "green": "green"}.items():
        for index in range(10):
            save_noisy(tmp_path / "pictures" / label / f"{index}.png", color, size=(32 + index, 32))
    command = [sys.executable, "-m", "zipeft.run", "--backbone", "hf_vit", "--no-pretrained", "--task", "folder"]
    options = ["--checkpoint", "small", "--data-dir", "pictures", "--set", "task.image_size=32"]
    options += ["--method", "all", "--seeds", "1", "--steps", "1", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(example_plugin)}
    done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    methods = {path.name.partition("-seed")[0] for path in (tmp_path / "results/hf_vit-folder").rglob("*.json")}
    assert {"zero_gated", "prompt", "deep_prompt", "lora", "full", "linear"} <= methods
