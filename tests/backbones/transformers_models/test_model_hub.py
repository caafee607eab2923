"""Models of transformers on the hub: asked once, taken from the cache, and refused before weights come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers

from support.encoder_folders import (
    KINDS,
    OTHERS,
    assert_loaded,
    digest_of,
    drawn,
    refusal,
    saved,
)
from zipeft.api.backbone import Weights
from zipeft.backbones.roberta.backbone import Roberta


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
