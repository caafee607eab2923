"""peft's AdaptionPrompt becomes an adapter, and adapters become that."""

from __future__ import annotations

import json

import pytest
import torch
from peft import AdaptionPromptConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from support.gated_adapters import (
    DEPTH,
    HEADS,
    LAYERS,
    LENGTH,
    assert_same,
    frozen,
    narrow,
    refusal,
)
from support.method_cases import slow

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize("layers", [LAYERS, *slow([DEPTH])])
@pytest.mark.parametrize(
    ("settings", "gates", "said"),
    [
        ({"gate": "layer", "gate_activation": "none"}, None, ""),
        ({"gate": "layer", "gate_activation": "tanh"}, None, "a gate is stored as its tanh"),
        ({"gate": "head", "gate_activation": "none"}, 0.7, "the gates of a layer's heads are equal"),
        ({"gate": "head", "gate_activation": "tanh"}, -0.4, "the gates of a layer's heads are equal"),
    ],
    ids=["plain", "tanh", "heads", "heads, tanh"],
)
def test_to_peft_and_back(settings, gates, said, layers, work, capsys):
    gates = gates and [[gates + 0.1 * layer] * HEADS for layer in range(layers)]
    source = work.adapter(layers=layers, gates=gates, **settings)
    out = work.convert(source, "--to", "peft")
    assert said in capsys.readouterr().out
    assert_same(source, PeftModel.from_pretrained(frozen(work.checkpoint), out))
    assert_same(source, work.back(out), exactly=settings == {"gate": "layer", "gate_activation": "none"})
    assert "it says" not in capsys.readouterr().out  # it was made for the very model that it has joined again


def test_the_files_are_those_that_peft_writes(work):
    model = PeftModel.from_pretrained(frozen(work.checkpoint), exported(work))
    model.save_pretrained(work.folder / "theirs")
    ours, theirs = (load_file(work.folder / name / "adapter_model.safetensors") for name in ("converted", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    configs = [
        json.loads((work.folder / name / "adapter_config.json").read_bytes()) for name in ("converted", "theirs")
    ]
    assert configs[0] == configs[1]


def exported(work):
    return work.convert(work.adapter(gate="layer", gate_activation="none"), "--to", "peft")


def test_a_pickled_peft_adapter_and_another_base_model(work, capsys):
    model = get_peft_model(
        frozen(work.checkpoint),
        AdaptionPromptConfig(adapter_len=LENGTH, adapter_layers=LAYERS),
    )
    for name, parameter in model.named_parameters():
        if name.endswith("adaption_gate"):
            torch.nn.init.normal_(parameter)
    folder = work.folder / "theirs"
    model.save_pretrained(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    torch.save(dict(reversed(tensors.items())), folder / "adapter_model.bin")  # in whatever order
    (folder / "adapter_model.safetensors").unlink()
    edit_config(base_model_name_or_path="owner/other")(folder)
    back = work.back(folder)
    assert "it was made for owner/other, and has joined" in capsys.readouterr().out
    assert_same(back, model)


def test_what_peft_cannot_say_is_refused(work, capsys):
    source = work.adapter(gate_activation="tanh", gates=[[0.5] * HEADS, [0.1, 0.1, 0.1, 0.4]])
    said = refusal(capsys, source, "--to", "peft", "--out", work.folder / "out")
    assert "one gate a layer, but those of the heads in layer 3 differ (0.0997 to 0.38)" in said
    assert not (work.folder / "out").exists()


def edit_tensors(change):
    def damage(folder):
        tensors = load_file(folder / "adapter_model.safetensors")
        change(tensors)
        save_file(tensors, folder / "adapter_model.safetensors")

    return damage


def edit_config(**changes):
    def damage(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))

    return damage


PREFIX = "base_model.model.model.layers.3.self_attn.adaption_"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is no config"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "is no config"),
        (edit_config(peft_type="LORA"), "of peft's LORA: only those of ADAPTION_PROMPT"),
        (edit_config(adapter_len=None), "are numbers from 1"),
        (edit_config(adapter_layers=0), "are numbers from 1"),
        (edit_config(adapter_layers=True), "are numbers from 1"),
        (edit_config(adapter_layers=10**12), "has not the prompts and gates of 1,000,000,000,000 top layers"),
        (edit_config(base_model_name_or_path=[]), "base_model_name_or_path is a name"),
        (lambda folder: (folder / "adapter_config.json").write_text("[" * 100_000), "nested too deeply"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "prompt": torch.tensor(1.0)})), "has not prompts of"),
        (edit_tensors(lambda tensors: tensors.update({f"x.{PREFIX}gate": torch.ones(1)})), "two adaption prompts"),
        (edit_config(adapter_layers=3), "has not the prompts and gates of 3 top layers"),
        (edit_config(adapter_len=4), "has not prompts of (1, 4, width)"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors' cannot be read"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\0" * 99), "cannot be read"),
        (edit_tensors(lambda tensors: tensors.pop(PREFIX + "gate")), "has not the prompts and gates of 2"),
        (edit_tensors(lambda tensors: tensors.clear()), "has not the prompts and gates of 2"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "gate": torch.zeros(4)})), "gates of (1,)"),
        (edit_tensors(lambda tensors: tensors.update({PREFIX + "prompt": torch.zeros(3, 32)})), "has not prompts of"),
        (edit_tensors(lambda tensors: tensors.update(lm_head=torch.zeros(1))), "'lm_head', which is no adaption"),
    ],
)  # fmt: skip
def test_a_damaged_peft_adapter_is_refused_in_one_line(damage, message, work, capsys):
    folder = exported(work)
    damage(folder)
    assert message in refusal(capsys, folder, *work.backbone, "--out", work.folder / "back")
    assert not (work.folder / "back").exists()


def test_models_for_which_peft_computes_something_else_are_refused(work, tmp_path_factory, capsys):
    folder = exported(work)
    for other, message in (
        (narrow(tmp_path_factory.mktemp("biased"), attention_bias=True), "the bias of the output projection twice"),
        (narrow(tmp_path_factory.mktemp("yarn"), rope_parameters=YARN), "its prompts have another temperature"),
        (narrow(tmp_path_factory.mktemp("qwen"), Qwen2Config, Qwen2ForCausalLM), "not for qwen2"),
    ):
        options = ("--backbone", "llama", "--checkpoint", other, "--out", work.folder / "back")
        assert message in refusal(capsys, folder, *options)
