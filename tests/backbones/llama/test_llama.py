"""Language models by folder or at random: what they compute, how they pad and end, and which are refused."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from zipeft.api.data import NO_LABEL
from zipeft.backbones.llama.backbone import Llama
from zipeft.backbones.transformers_models import folder as model_folder
from zipeft.backbones.transformers_models import hub
from zipeft.errors import UserError

WORDS = ["<s>", "</s>", "<unk>", "<turn>", *"abcdefgh"]
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"num_key_value_heads": 2, "vocab_size": len(WORDS), "max_position_embeddings": 50, "initializer_range": 0.3}
SIZE |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
KINDS = {
    "llama": transformers.LlamaConfig(**SIZE),
    "mistral": transformers.MistralConfig(**SIZE, sliding_window=None),
    "qwen2": transformers.Qwen2Config(**SIZE),
    "qwen3": transformers.Qwen3Config(**SIZE, head_dim=8),
    "gemma": transformers.GemmaConfig(**SIZE, head_dim=8),
}


def save(folder, config, pad: str | None = None) -> str:
    """Write a model of random weights, with a tokenizer that has a padding token or none."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": pad}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def refusal(checkpoint: str) -> str:
    with pytest.raises(UserError) as error:
        Llama(checkpoint).build()
    assert "\n" not in str(error.value)
    return str(error.value)


def inputs(*texts: str, side: str = "right") -> dict[str, torch.Tensor]:
    """Texts as tokens, a letter each, padded with the end token."""
    rows = [[WORDS.index(letter) for letter in text] for text in texts]
    longest = max(map(len, rows))
    blank = [(longest - len(row)) * [1] for row in rows]
    join = (lambda row, pad: row + pad) if side == "right" else (lambda row, pad: pad + row)
    mask = [join(len(row) * [1], len(pad) * [0]) for row, pad in zip(rows, blank, strict=True)]
    return {
        "input_ids": torch.tensor([join(row, pad) for row, pad in zip(rows, blank, strict=True)]),
        "attention_mask": torch.tensor(mask),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_computes_what_transformers_does(kind, tmp_path):
    backbone = Llama(save(tmp_path / kind, KINDS[kind]))
    model, theirs = backbone.build(), transformers.AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (len(backbone.blocks(model)), backbone.width(model), backbone.max_length()) == (2, 32, 50)
    assert backbone.weights().source == "local folder"
    for side in ("right", "left"):
        batch = inputs("abcde", "fg", side=side)
        ours = backbone.logits(model, backbone.tokens(model, batch))
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        expected = theirs(**batch, position_ids=positions).logits
        real = batch["attention_mask"].bool()
        torch.testing.assert_close(ours[real], expected[real], rtol=1e-4, atol=1e-5)
        features = backbone.features(model, batch)
        last = backbone.tokens(model, inputs("fg"))[:, -1]
        torch.testing.assert_close(features[1:], last, rtol=1e-4, atol=1e-5)


def test_the_end_token_pads_where_there_is_no_other(tmp_path):
    """LLaMA's own tokenizers have none."""
    backbone = Llama(save(tmp_path / "none", KINDS["llama"]))
    assert backbone.tokenizer().pad_token_id == 1
    alone, padded = ({**inputs(text), "labels": inputs(text)["input_ids"]} for text in ("ab", "abcdef"))
    each = [{name: values[0] for name, values in one.items()} for one in (alone, padded)]
    batch = backbone.collate(each)
    assert batch["input_ids"][0].tolist() == [4, 5, 1, 1, 1, 1]
    assert batch["labels"][0].tolist() == [4, 5, *[NO_LABEL] * 4]
    model = backbone.build()
    torch.testing.assert_close(backbone.log_probs(model, batch)[:1, :2], backbone.log_probs(model, alone))
    assert Llama(save(tmp_path / "own", KINDS["llama"], pad="<unk>")).tokenizer().pad_token_id == 2


def test_a_text_ends_where_the_models_own_settings_say_and_nothing_else_of_them_counts(tmp_path):
    folder = save(tmp_path / "chat", KINDS["llama"])
    plain = Llama(folder)
    (whole,) = plain.generate(plain.build(), inputs("abc"), 12)
    assert len(set(whole)) > 1
    end = next(token for token in whole[1:] if token != whole[0])
    settings = {"eos_token_id": [1, end], "do_sample": True, "temperature": 9.0, "repetition_penalty": 9.0}
    (tmp_path / "chat" / model_folder.GENERATION).write_text(json.dumps(settings))
    (cut,) = plain.generate(plain.build(), inputs("abc"), 12)
    assert cut == whole[: whole.index(end)]
    assert model_folder.GENERATION in hub._wanted({model_folder.GENERATION, "model.safetensors"})
    broken = {
        "{": "cannot be read",
        "[" * 100_000: "cannot be read",
        '{"eos_token_id": "x"}': "has the eos_token_id 'x'",
    }
    for text, words in {**broken, f'{{"eos_token_id": {10**30}}}': f"has the eos_token_id {10**30}"}.items():
        (tmp_path / "chat" / model_folder.GENERATION).write_text(text)
        assert words in refusal(folder)


@pytest.mark.parametrize("limit", ["x", [5], 0, -1, True, "512", {}, float("nan"), -0.5, "1e30"])
def test_a_tokenizer_whose_limit_is_no_number_of_tokens_is_refused(limit, tmp_path):
    folder = save(tmp_path / "chat", KINDS["llama"])
    path = tmp_path / "chat" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": limit}))
    with pytest.raises(UserError, match=r"has the model_max_length .*: give a number of tokens, or take it out"):
        Llama(folder).max_length()


REFUSED = {
    "bert": (transformers.BertConfig(**{**SIZE, "pad_token_id": 0}), "BertLMHeadModel is no decoder"),
    "gpt2": (
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=len(WORDS), bos_token_id=0, eos_token_id=1),
        "GPT2LMHeadModel is no language model with one attention a layer",
    ),
    "cohere": (
        transformers.CohereConfig(**SIZE, logit_scale=0.5),
        "CohereForCausalLM changes its logits after the last layer",
    ),
    "vit": (
        transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
        "no model of this kind",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_plain_language_model_is_refused(kind, tmp_path):
    config, words = REFUSED[kind]
    folder = save(tmp_path / kind, KINDS["llama"])
    if kind == "vit":
        config.save_pretrained(folder)
    else:
        save(tmp_path / kind, config)
    assert words in refusal(folder)


@pytest.mark.parametrize(("name", "parameters"), [("llama-7b", 6_738_415_616), ("llama-13b", 13_015_864_320)])
def test_published_sizes_can_be_had_at_random_weights(name, parameters):
    with torch.device("meta"):
        model = Llama(name, pretrained=False).build()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_another_name_is_refused_with_a_hint():
    with pytest.raises(UserError, match=r"no architecture 'llama-7' for random weights.*did you mean"):
        Llama("llama-7", pretrained=False).build()
