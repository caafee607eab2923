"""Prompts that start from words: as peft has it, as each model embeds them, and on record only where there are some."""

from __future__ import annotations

import pytest
import torch
import transformers
from accelerate import Accelerator
from peft import PromptTuningConfig
from peft.tuners.prompt_tuning import PromptEmbedding

from support import experiments
from support.toys import ToyCLIP, ToyDecoder, ToyEncoder, ToyTexts, ToyViT, ToyVLM, registered, split_of
from zipeft.adapters.saved import load_adapter, save_adapter
from zipeft.api.settings import as_json
from zipeft.errors import UserError
from zipeft.methods.prompt import DeepPrompt, Prompt
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator

WORDS = "it was a good film"


def start(backbone, seed=0, **settings):
    """Return the tokens that a prompt starts from, and the model."""
    torch.manual_seed(seed)
    model = backbone.build().requires_grad_(False)
    Prompt(**settings).apply(backbone, model)
    return backbone.blocks(model)[0].token_prompt.tokens, model


def ids(backbone, text=WORDS):
    return backbone.tokenizer()(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("length", [3, 5, 12])
def test_a_decoders_prompt_starts_where_pefts_does(length, monkeypatch):
    backbone = ToyDecoder()
    tokens, model = start(backbone, length=length, initial=WORDS)
    monkeypatch.setattr(
        transformers.AutoTokenizer, "from_pretrained", lambda _: lambda text: {"input_ids": ids(backbone, text)}
    )
    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=length,
        num_transformer_submodules=1,
        token_dim=32,
        prompt_tuning_init="TEXT",
        prompt_tuning_init_text=WORDS,
        tokenizer_name_or_path="the toy's",
    )
    theirs = PromptEmbedding(config, model.get_input_embeddings())
    assert torch.equal(tokens, theirs.embedding.weight)
    assert tokens.dtype == torch.float32
    assert tokens.requires_grad
    assert tokens.data_ptr() != model.get_input_embeddings().weight.data_ptr()


def test_a_prompt_of_an_encoder_starts_as_its_first_block_gets_the_words():
    backbone = ToyEncoder()
    tokens, model = start(backbone, length=7, initial=WORDS)
    parts, own = model.embeddings.double(), torch.tensor(ids(backbone))
    positions = torch.arange(len(own)) + 1 + parts.padding_idx
    added = parts.word_embeddings.weight[own] + parts.position_embeddings.weight[positions]
    added = added + parts.token_type_embeddings.weight[0]
    centred = added - added.mean(-1, keepdim=True)
    norm = parts.LayerNorm
    expected = centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias
    torch.testing.assert_close(tokens.double(), torch.cat([expected, expected])[:7], rtol=0, atol=1e-6)


def test_a_decoder_that_is_shown_images_starts_as_it_does_alone():
    assert torch.equal(start(ToyVLM(), initial=WORDS)[0], start(ToyDecoder(), initial=WORDS)[0])


def test_words_of_the_vocabulary_are_drawn_by_the_seed():
    tokens, model = start(ToyDecoder(), length=30, initial="vocabulary")
    found = (tokens[:, None] == model.get_input_embeddings().weight).all(-1)
    assert found.any(1).all()
    assert found.int().argmax(1).unique().numel() > 5
    assert torch.equal(tokens, start(ToyDecoder(), length=30, initial="vocabulary")[0])
    assert not torch.equal(tokens, start(ToyDecoder(), seed=1, length=30, initial="vocabulary")[0])


def test_without_words_nothing_is_on_record_and_the_start_is_as_it_was():
    assert as_json(Prompt()) == {
        "learning_rate": 1e-2,
        "head_learning_rate": 1e-2,
        "weight_decay": 1e-4,
        "length": 10,
    }
    assert as_json(Prompt(initial=WORDS))["initial"] == WORDS
    assert "initial" not in as_json(DeepPrompt())
    torch.manual_seed(0)
    bound = (3 / 32) ** 0.5
    expected = torch.empty(10, 32).uniform_(-bound, bound)
    assert torch.equal(start(ToyDecoder())[0], expected)


@pytest.mark.parametrize(
    ("backbone", "settings", "reason"),
    [
        (ToyViT(), {"initial": WORDS}, "ToyViT reads no words"),
        (ToyCLIP(), {"initial": "vocabulary"}, "ToyCLIP reads no words"),
        (ToyDecoder(), {"initial": " "}, "have no token"),
        (ToyEncoder(), {"initial": "vocabulary", "length": 65}, "start from 65 tokens, but the backbone takes 64"),
    ],
)
def test_what_no_prompt_can_start_from_is_refused_in_one_line(backbone, settings, reason):
    with pytest.raises(UserError, match=reason):
        start(backbone, **settings)


def test_a_prompt_from_words_learns_and_comes_back(tmp_path):
    with registered():
        backbone, task = ToyEncoder(), ToyTexts()
        made = experiments.experiment(backbone, task, names=("toy_text", "toy_text"), epochs=2, batch_size=8)
        run = experiments.run("praise", "prompt", initial=WORDS)
        result, learner = made.measure(run)
        assert result.history[-1].train_loss < result.history[0].train_loss
        assert result.id == made.id(run) != made.id(experiments.run("praise", "prompt"))
        loaded, record = load_adapter(save_adapter(tmp_path, learner, made.describer.adapter(run)))
        assert record.method.settings["initial"] == WORDS
        test = encode(split_of(task.load("praise"), "test"), task.windows(backbone), backbone)
        _, predictions = Evaluator(task, Accelerator(cpu=True)).test(loaded, test)
        assert tuple(map(task.record, predictions)) == result.predictions
