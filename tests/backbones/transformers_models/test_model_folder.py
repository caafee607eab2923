"""Models of transformers in a folder: what is read, the tokenizer, and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from support.encoder_folders import (
    KINDS,
    OTHERS,
    ROWS,
    TINY,
    assert_loaded,
    digest_of,
    drawn,
    encoded,
    random_inputs,
    refusal,
    saved,
)
from zipeft.api.backbone import Weights
from zipeft.backbones.roberta.backbone import Roberta
from zipeft.backbones.transformers_models import hub as model_hub
from zipeft.methods.lora import LoRA

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
