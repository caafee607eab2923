"""What a checkpoint of the CLIP backbone may name: open_clip's models and tags, files, and the embedded one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.clip_models import BACKBONE, named
from support.malicious import Malicious
from support.toys import SIZE, TINY_CLIP
from zipeft import registry
from zipeft.api.backbone import Weights
from zipeft.backbones.clip import choice as choices
from zipeft.backbones.clip.backbone import CLIP
from zipeft.backbones.clip.matcher import ZeroShotCLIP, create
from zipeft.errors import UserError
from zipeft.splices import gated_prompts

# --- names and files --------------------------------------------------------------------------------------------------


def refusal(checkpoint: str, **settings) -> str:
    """The message with which a checkpoint is refused: one line, whatever is wrong."""
    with pytest.raises(UserError) as error:
        CLIP(checkpoint, **settings).build()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def tiny(monkeypatch) -> dict[str, torch.Tensor]:
    """Make open_clip know a tiny model with a tag, and return weights that are not those it has at random."""
    tag = {"url": "", "hf_hub": "owner/tiny/", "quick_gelu": True, "mean": (0.5, 0.5, 0.5), "interpolation": "bilinear"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-Tiny", TINY_CLIP)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-Tiny", {"some": tag})
    state = create(TINY_CLIP).state_dict()
    return {name: torch.randn_like(value) for name, value in state.items()}


def assert_loaded(model: ZeroShotCLIP, state: dict[str, torch.Tensor]) -> None:
    own = model.clip.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in own.items())


def test_unknown_names_and_tags() -> None:
    assert "did you mean 'ViT-B-16'?" in refusal("ViT-B16", pretrained=False)
    assert "NAME/TAG" in refusal("???")
    assert "did you mean 'openai'?" in refusal("ViT-B-16/openia")
    assert "tags of ViT-B-16: openai, " in refusal("ViT-B-16/qqq")
    assert "tags of ViT-B-16: openai, " in refusal("ViT-B-16")
    for look in (lambda backbone: backbone.weights(), lambda backbone: backbone.preprocess()):
        with pytest.raises(UserError, match="did you mean"):
            look(CLIP("ViT-B16"))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("RN50", "a ResNet for images"),
        ("convnext_base", "an image tower of timm"),
        ("ViT-B-16-SigLIP", "an image tower of timm"),
        ("roberta-ViT-B-32", "a text tower of transformers"),
        ("coca_ViT-B-32", "a decoder of captions"),
    ],
)
def test_models_with_other_towers_are_refused(name, part) -> None:
    assert refusal(name, pretrained=False) == f"open_clip's {name} has {part}: {choices.TAKE}"


def test_every_model_that_is_taken_has_two_towers_that_are_joined() -> None:
    """Of every model of open_clip with towers of its own, without its memory: a splice knows all its attentions."""
    taken = [name for name in open_clip.list_models() if not choices._other_tower(open_clip.get_model_config(name))]
    assert {"ViT-B-16", "ViT-L-14-336-quickgelu", "ViT-H-14-CLIPA", "ViT-bigG-14-worldwide"} <= set(taken)
    kinds: dict[tuple, str] = {}
    for name in sorted(taken, key=lambda name: open_clip.get_model_config(name)["vision_cfg"]["layers"]):
        config = open_clip.get_model_config(name)
        shape = [sorted(config[part]) for part in ("vision_cfg", "text_cfg")]
        kinds.setdefault((str(shape), config["text_cfg"].get("pool_type")), name)
    for name in kinds.values():
        backbone = CLIP(name, pretrained=False)
        with torch.device("meta"):
            model = backbone.build().requires_grad_(False)
            registry.methods.get("zero_gated")().apply(backbone, model)
        assert len(gated_prompts(model)) == sum(map(len, backbone.towers(model).values())), name


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_local_file(tiny, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(tiny, path) if suffix == ".safetensors" else torch.save(tiny, path)
    backbone = CLIP(f"ViT-Tiny:{path}")
    assert_loaded(backbone.build(), tiny)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.weights() == Weights(f"ViT-Tiny:weights{suffix}", "local file", digest)
    assert CLIP(f"ViT-Tiny/some:{path}").weights().checkpoint == f"ViT-Tiny/some:weights{suffix}"


@pytest.mark.parametrize("tag", ["", "/some"])
def test_activation_and_preprocessing_are_those_of_the_tag(tiny, tmp_path: Path, tag: str) -> None:
    save_file(tiny, tmp_path / "x.safetensors")
    backbone = CLIP(f"ViT-Tiny{tag}:{tmp_path / 'x.safetensors'}")
    quick = any(isinstance(module, open_clip.transformer.QuickGELU) for module in backbone.build().modules())
    assert quick == bool(tag)
    white = backbone.preprocess()(Image.new("RGB", (40, 20), "white"))
    assert white.shape == (3, SIZE, SIZE)
    deviation = torch.tensor(open_clip.OPENAI_DATASET_STD)
    mean = torch.tensor((0.5, 0.5, 0.5) if tag else open_clip.OPENAI_DATASET_MEAN)
    torch.testing.assert_close(white[:, 0, 0], (1 - mean) / deviation)


def test_half_precision_is_loaded_as_float32(tiny, tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in tiny.items()}
    save_file(halves, tmp_path / "x.safetensors")
    assert_loaded(CLIP(f"ViT-Tiny:{tmp_path / 'x.safetensors'}").build(), {k: v.float() for k, v in halves.items()})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_checkpoint_of_a_training(tiny, tmp_path: Path, prefix: str) -> None:
    wrapped = {f"{prefix}{name}": value for name, value in tiny.items()}
    torch.save({"epoch": 3, "name": "a", "state_dict": wrapped, "optimizer": {"state": {}}}, tmp_path / "epoch_3.pt")
    assert_loaded(CLIP(f"ViT-Tiny:{tmp_path / 'epoch_3.pt'}").build(), tiny)


def test_files_that_are_refused(tiny, tmp_path: Path) -> None:
    def message(**changes: torch.Tensor | None) -> str:
        state = {name: value for name, value in {**tiny, **changes}.items() if value is not None}
        save_file(state, tmp_path / "x.safetensors")
        return refusal(f"ViT-Tiny:{tmp_path / 'x.safetensors'}")

    assert "it lacks 'ln_final.bias'" in message(**{"ln_final.bias": None})
    assert "it has 'extra', which the model has not" in message(extra=torch.ones(1))
    smaller = tiny["visual.positional_embedding"][1:].contiguous()
    assert "is (16, 32), not (17, 32)" in message(**{"visual.positional_embedding": smaller})
    assert "not finite" in message(**{"ln_final.bias": torch.full((32,), torch.nan)})
    assert "there is no file" in refusal(f"ViT-Tiny:{tmp_path / 'none.pt'}")
    assert "there is no file" in refusal(f"ViT-Tiny:{'y' * 300}.pt")
    (tmp_path / "x.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert "is a pointer of Git LFS" in refusal(f"ViT-Tiny:{tmp_path / 'x.pt'}")
    assert "without its architecture" in refusal(str(tmp_path / "x.safetensors"))
    assert "pretrained is off" in refusal(f"ViT-Tiny:{tmp_path / 'x.safetensors'}", pretrained=False)
    (tmp_path / "x.npz").touch()
    assert "no known kind" in refusal(f"ViT-Tiny:{tmp_path / 'x.npz'}")
    torch.save({"epoch": 3, **tiny}, tmp_path / "x.pt")
    assert "holds no state dict" in refusal(f"ViT-Tiny:{tmp_path / 'x.pt'}")
    (tmp_path / "x.pt").write_bytes(b"garbage")
    assert "x.pt" in refusal(f"ViT-Tiny:{tmp_path / 'x.pt'}")


def test_a_pickle_that_runs_code_is_refused(tiny, tmp_path: Path) -> None:
    torch.save({**tiny, "extra": Malicious(tmp_path / "ran")}, tmp_path / "x.pt")
    assert "would run code" in refusal(f"ViT-Tiny:{tmp_path / 'x.pt'}")
    assert not (tmp_path / "ran").exists()


# --- published weights ------------------------------------------------------------------------------------------------


def test_hub_out_of_reach() -> None:
    message = refusal("ViT-B-32/openai")
    for part in ("cannot be had", "--checkpoint ViT-B-32/openai:PATH", "--no-pretrained", "embedded default"):
        assert part in message


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_weights_in_the_cache_are_used_without_asking(tiny, tmp_path: Path, monkeypatch, name: str) -> None:
    backbone = CLIP("ViT-Tiny/some")
    assert backbone.weights() == Weights("ViT-Tiny/some", "hub", "")
    path = tmp_path / name
    save_file(tiny, path) if name.endswith("safetensors") else torch.save(tiny, path)
    cache = {("owner/tiny", name): str(path)}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name, **_: cache.get((repo, name)))
    assert_loaded(backbone.build(), tiny)
    assert backbone.weights() == Weights("ViT-Tiny/some", "hub", hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_tokenizer_of_the_hub_is_in_the_checksum(tiny, tmp_path: Path, monkeypatch) -> None:
    text = {**TINY_CLIP["text_cfg"], "hf_tokenizer_name": "owner/words"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-Tiny", {**TINY_CLIP, "text_cfg": text})
    save_file(tiny, tmp_path / "x.safetensors")
    words = tmp_path / "tokenizer.json"
    words.write_text("{}")
    cache = {("owner/words", words.name): str(words)}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name, **_: cache.get((repo, name)))
    before = CLIP(f"ViT-Tiny:{tmp_path / 'x.safetensors'}").weights()
    words.write_text('{"model": 1}')
    after = CLIP(f"ViT-Tiny:{tmp_path / 'x.safetensors'}").weights()
    assert before.older == after.older == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    assert len({before.checksum, after.checksum, before.older}) == 3


def test_weights_are_downloaded_as_open_clip_does(tiny, tmp_path: Path, monkeypatch) -> None:
    save_file(tiny, tmp_path / "open_clip_model.safetensors")
    asked = []

    def model_info(self, repository: str, **_: object) -> SimpleNamespace:
        asked.append(repository)
        return SimpleNamespace(siblings=[], sha="", private=False)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)

    def download(repo_id, filename, **_options):
        asked.append(filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", download)
    assert_loaded(CLIP("ViT-Tiny/some").build(), tiny)
    assert asked == ["owner/tiny", "open_clip_model.safetensors"]


# --- the embedded default ---------------------------------------------------------------------------------------------


def test_a_missing_embedded_model_is_said_in_one_line(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choices, "FOLDER", tmp_path)
    assert "the embedded CLIP is not installed (icon_clip.safetensors is missing)" in refusal("")
    assert "the embedded CLIP is not installed (open_clip_config.json is missing)" in refusal("", pretrained=False)


def test_the_embedded_architecture_at_random() -> None:
    backbone = CLIP(pretrained=False)
    model = named(classes=("arrow", "house"), backbone=backbone)
    picture = backbone.preprocess()(Image.new("RGB", (96, 96), "white"))
    assert BACKBONE.matches(model, picture[None]).shape == (1, 2)
    assert backbone.weights() == Weights("icon_clip", "random", "")
