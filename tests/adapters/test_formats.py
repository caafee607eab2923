"""Adapters in other formats: the same function before and after, or a refusal in one line."""

from __future__ import annotations

import json

import pytest
import torch

from support.gated_adapters import (
    WIDTH,
    learner_of,
    published,
    refusal,
)
from support.toys import ToyTask, ToyViT, registered
from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.commands.evaluate import main as evaluate
from zipeft.methods.zero_gated import ZeroGated
from zipeft.registry import Named

# --- the command ------------------------------------------------------------------------------------------------------


def test_an_adapter_with_more_than_prompts_is_refused(work, capsys):
    with registered():
        backbone, task = ToyViT(), ToyTask()
        learner = learner_of(backbone, ZeroGated())
        learner.head = torch.nn.Linear(WIDTH, 3)
        parts = Named("toy", backbone), Named("zero_gated", ZeroGated()), Named("toy", task)
        record = AdapterRecord.of(*parts, "colours", list("abc"))
        folder = save_adapter(work.folder / "toy", learner, record)
        assert "head.weight was learnt" in refusal(capsys, folder, "--to", "peft", "--out", work.folder / "out")
    lora = work.adapter(registry.methods.get("lora")(), "lora")
    said = refusal(capsys, lora, "--to", "llama-adapter", "--out", work.folder / "out")
    assert "lora_A" in said
    assert "was learnt" in said


def test_a_task_with_a_head_is_refused(work, capsys):
    published(work.folder / "published.pth", (1,))
    options = (*work.backbone, "--out", work.folder / "back")
    with registered():
        said = refusal(capsys, work.folder / "published.pth", *options, "--task", "toy_text")
        assert "toy_text is a task on texts; the backbone takes instructions" in said
        registry.tasks.get("toy_text").modality = "instruction"
        try:
            said = refusal(capsys, work.folder / "published.pth", *options, "--task", "toy_text")
        finally:
            registry.tasks.get("toy_text").modality = "text"
    assert "has a head, which no other format holds" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["adapter", "--to", "zipeft"], "is in the format zipeft: convert it to peft or llama-adapter"),
        (["peft", "--to", "llama-adapter"], "is in the format peft: convert it to zipeft, not to llama-adapter"),
        (["peft"], "does not hold the model that it was made for: give --backbone"),
        (["peft", "--backbone", "llama", "--gate-activation", "tanh"], "peft applies nothing to a gate"),
        (["peft", "--backbone", "llama", "--length", "3"], "for a checkpoint of LLaMA-Adapter alone"),
        (["peft", "--backbone", "llama", "--set", "vit.x=1"], "there is no 'vit' here, only llama and instruct"),
        (["peft", "--backbone", "lama"], "unknown backbone 'lama'"),
        (["peft", "--backbone", "llama", "--task", "instrukt"], "unknown task 'instrukt'"),
        (["adapter", "--to", "peft", "--checkpoint", "x"], "--checkpoint needs --backbone"),
        (["nothing", "--to", "peft"], "is no adapter"),
        (["adapter", "--to", "peft", "--out", "peft"], "is there already"),
    ],
)
def test_bad_arguments_are_one_line(options, message, work, capsys, monkeypatch):
    monkeypatch.chdir(work.folder)
    for name, file in (("adapter", "adapter.json"), ("peft", "adapter_config.json")):
        (work.folder / name).mkdir()
        (work.folder / name / file).write_text("{}")
    arguments = options if "--out" in options else [*options, "--out", "out"]
    assert message in refusal(capsys, *arguments)


def test_a_converted_adapter_is_scored_like_any_other(work, capsys):
    data = work.folder / "data"
    data.mkdir()
    for split, word in (("train", "good"), ("validation", "bad"), ("test", "film")):
        record = {"instruction": f"it was {word}", "input": "", "output": "so good"}
        (data / f"{split}.json").write_text(json.dumps([record]))
    published(work.folder / "published.pth", (1,))
    settings = [f"instruct.data_dir={data}", "instruct.template={instruction}"]
    settings += ["instruct.max_length=64", "instruct.max_new_tokens=4"]
    back = work.back(work.folder / "published.pth", *(token for each in settings for token in ("--set", each)))
    capsys.readouterr()
    assert evaluate([str(back)]) == 0
    assert "1 test examples: answer_probability" in capsys.readouterr().out
