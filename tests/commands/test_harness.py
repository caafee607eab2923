"""Benchmarks of lm-evaluation-harness on adapters: the harness gets just the model that zipeft has, spliced."""

from __future__ import annotations

import json
import random
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from zipeft import registry
from zipeft.adapters.record import AdapterRecord
from zipeft.adapters.saved import save_adapter
from zipeft.api.data import NO_LABEL
from zipeft.api.learner import Learner
from zipeft.commands.harness import main
from zipeft.methods.zero_gated import ZeroGated
from zipeft.objectives.responses import Responses
from zipeft.registry import Named
from zipeft.splices import gated_prompts

TASK = """\
task: guesses
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


def line(capsys, *arguments: str) -> str:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_the_harness_it_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert "pip install 'zipeft[eval]'" in line(capsys, "--backbone", "llama", "--tasks", "arc_easy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "arc_easy"], "give the folder of an adapter, or a --backbone"),
        (["somewhere", "--backbone", "llama", "--tasks", "arc_easy"], "give the folder of an adapter, or a --backbone"),
        (
            ["--backbone", "llama", "--tasks", "arc_easy", "--limit", "0"],
            "argument --limit: 0 is out of range: give 1 or more",
        ),
        (["--backbone", "llama"], "--tasks"),
    ],
    ids=["neither", "both", "limit", "no task"],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert message in line(capsys, *arguments)


@pytest.fixture
def checkpoint(tmp_path, toy_words) -> str:
    """A folder with a narrow LLaMA and its tokenizer."""
    folder = tmp_path / "narrow"
    toy_words.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = LlamaConfig(**size, num_key_value_heads=2, vocab_size=len(toy_words), initializer_range=0.3)
        LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def toy_words() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<s>", "</s>", "<unk>", *"abcdefghijkl"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture
def questions(tmp_path) -> list[dict]:
    stream = random.Random(0)
    made = [
        {"question": " ".join(stream.choices("abcdefghijkl", k=5)), "choices": list("abcd"), "answer": index % 4}
        for index in range(24)
    ]
    file = tmp_path / "guesses.jsonl"
    file.write_text("\n".join(map(json.dumps, made)))
    (tmp_path / "guesses.yaml").write_text(TASK.format(file=file))
    return made


def accuracy(learner: Learner, questions: list[dict]) -> float:
    """The part of the questions whose right choice has the highest log-probability, one by one."""
    tokenizer, right = learner.backbone.tokenizer(), 0
    for each in questions:
        prompt = tokenizer(each["question"]).input_ids
        scores = []
        for choice in each["choices"]:
            ids = torch.tensor([prompt + tokenizer(choice).input_ids])
            labels = torch.where(torch.arange(ids.shape[1]) < len(prompt), NO_LABEL, ids)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
            with torch.no_grad():
                log_probs = learner(inputs)
            scores.append(log_probs[log_probs <= 0].sum().item())
        right += scores.index(max(scores)) == each["answer"]
    return right / len(questions)


@pytest.mark.slow
def test_an_adapter_is_scored_with_its_prompts(capsys, tmp_path, checkpoint, questions):
    backbone = registry.backbones.get("llama")(checkpoint)
    method, task = ZeroGated(length=4), registry.tasks.get("instruct")()
    model = backbone.build().requires_grad_(False)
    method.apply(backbone, model)
    learner = Learner(backbone, model, torch.nn.Identity(), Responses().read).eval()
    frozen = accuracy(learner, questions)
    with torch.no_grad():
        for prompt in gated_prompts(model):
            prompt.gate.fill_(3.0)
    tuned = accuracy(learner, questions)
    assert tuned != frozen
    parts = Named("llama", backbone), Named("zero_gated", method), Named("instruct", task)
    save_adapter(tmp_path / "adapter", learner, AdapterRecord.of(*parts, task.datasets()[0], []))
    asked = ["--tasks", "guesses", "--include", str(tmp_path), "--out", str(tmp_path / "out.json")]
    for who, expected in (
        (["--backbone", "llama", "--checkpoint", checkpoint], frozen),
        ([str(tmp_path / "adapter")], tuned),
    ):
        assert main([*who, *asked]) == 0
        assert f"{expected:.4f}" in capsys.readouterr().out
        assert json.loads((tmp_path / "out.json").read_text())["guesses"]["acc,none"] == pytest.approx(expected)
    assert "has no task 'gueses'" in line(capsys, "--backbone", "llama", "--tasks", "gueses", *asked[2:])
