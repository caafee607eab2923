"""Weights of the ViT backbone: files of every kind, the hub, and what is refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from support.malicious import Malicious
from support.vit_weights import random_vit, refusal
from zipeft.api.backbone import Weights
from zipeft.backbones.vit.backbone import ViT
from zipeft.errors import UserError


def assert_loaded(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    own = model.state_dict()
    assert own.keys() == {key for key in state if not key.startswith("head.")}
    assert all(torch.equal(value, state[key]) for key, value in own.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
def test_local_file(state: dict[str, torch.Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = ViT(f"test_vit:{path}")
    assert_loaded(backbone.build(), state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.weights() == Weights(f"test_vit:weights{suffix}", "local file", digest)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_checkpoint_of_a_training(state: dict[str, torch.Tensor], tmp_path: Path, key: str) -> None:
    wrapped = {f"module.{name}": value for name, value in state.items()}
    torch.save({"epoch": 3, key: wrapped}, tmp_path / "last.pth.tar")
    assert_loaded(ViT(f"test_vit:{tmp_path / 'last.pth.tar'}").build(), state)


def test_half_precision_file_is_loaded_as_float32(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    halves = {key: value.bfloat16() for key, value in state.items()}
    save_file(halves, tmp_path / "x.safetensors")
    assert_loaded(ViT(f"test_vit:{tmp_path / 'x.safetensors'}").build(), {k: v.float() for k, v in halves.items()})


def test_position_table_of_another_image_size(tmp_path: Path) -> None:
    other = timm.create_model("test_vit", img_size=64).state_dict()
    save_file(other, tmp_path / "x.safetensors")
    model = ViT(f"test_vit:{tmp_path / 'x.safetensors'}").build()
    assert model.pos_embed.shape != other["pos_embed"].shape
    assert torch.equal(model.pos_embed[:, 0], other["pos_embed"][:, 0])


def google_weights(state: dict[str, torch.Tensor], heads: int) -> dict[str, np.ndarray]:
    """Write a state dict of timm the way that Google's original checkpoints name and shape it."""
    width = state["cls_token"].shape[-1]
    arrays = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(len([key for key in state if key.endswith("attn.qkv.weight")])):
        block, old = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for name, new in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            arrays[f"{block}/{name}/scale"] = state[f"{old}.{new}.weight"]
            arrays[f"{block}/{name}/bias"] = state[f"{old}.{new}.bias"]
        parts = zip(state[f"{old}.attn.qkv.weight"].chunk(3), state[f"{old}.attn.qkv.bias"].chunk(3), strict=True)
        for name, (weight, bias) in zip(("query", "key", "value"), parts, strict=True):
            arrays[f"{attention}/{name}/kernel"] = weight.T.reshape(width, heads, -1)
            arrays[f"{attention}/{name}/bias"] = bias.reshape(heads, -1)
        arrays[f"{attention}/out/kernel"] = state[f"{old}.attn.proj.weight"].T.reshape(heads, -1, width)
        arrays[f"{attention}/out/bias"] = state[f"{old}.attn.proj.bias"]
        for name, new in (("Dense_0", "fc1"), ("Dense_1", "fc2")):
            arrays[f"{block}/MlpBlock_3/{name}/kernel"] = state[f"{old}.mlp.{new}.weight"].T
            arrays[f"{block}/MlpBlock_3/{name}/bias"] = state[f"{old}.mlp.{new}.bias"]
    return {key: value.numpy() for key, value in arrays.items()}


def test_original_npz(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **google_weights(state, heads=2))
    assert_loaded(ViT(f"test_vit:{tmp_path / 'x.npz'}").build(), state)


def test_npz_of_another_architecture(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    arrays = google_weights(state, heads=2)
    np.savez(tmp_path / "x.npz", **arrays)
    assert "its patches are of (16, 16) pixels, not (14, 14)" in refusal(
        f"vit_small_patch14_dinov2:{tmp_path / 'x.npz'}"
    )
    del arrays["Transformer/encoderblock_2/LayerNorm_0/scale"]
    np.savez(tmp_path / "y.npz", **arrays)
    assert "encoderblock_2" in refusal(f"test_vit:{tmp_path / 'y.npz'}")


def test_npz_that_leaves_parameters_unset(state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch) -> None:
    np.savez(tmp_path / "x.npz", **google_weights(state, heads=2))
    create = timm.create_model  # the same model with layer scales, which such a file does not have
    monkeypatch.setattr(timm, "create_model", lambda *names, **options: create(*names, init_values=1e-5, **options))
    assert "it lacks 'blocks.0.ls1.gamma'" in refusal(f"test_vit:{tmp_path / 'x.npz'}")


def test_missing_file(tmp_path: Path) -> None:
    message = refusal(f"test_vit:{tmp_path / 'none.pth'}")
    assert "there is no file" in message
    assert "none.pth" in message
    assert "there is no file" in refusal(f"test_vit:{tmp_path}")  # a folder
    assert "there is no file" in refusal("test_vit:")


def test_file_without_its_architecture(tmp_path: Path) -> None:
    assert "write NAME:PATH" in refusal(str(tmp_path / "x.safetensors"))


def test_file_with_pretrained_off(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pretrained is off"):
        random_vit(f"test_vit:{tmp_path}/x.pth").build()


def test_file_of_another_architecture(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    def message(name: str, **changes: torch.Tensor | None) -> str:
        changed = {key: value for key, value in {**state, **changes}.items() if value is not None}
        save_file(changed, tmp_path / "x.safetensors")
        return refusal(f"{name}:{tmp_path / 'x.safetensors'}")

    assert "x.safetensors' holds no weights of vit_tiny_patch16_224: " in message("vit_tiny_patch16_224")
    assert "is (1, 1, 64), not (1, 1, 192)" in message("vit_tiny_patch16_224")
    assert "it lacks 'norm.bias'" in message("test_vit", **{"norm.bias": None})
    assert "it has 'blocks.6.norm1.bias', which" in message("test_vit", **{"blocks.6.norm1.bias": torch.ones(64)})
    smaller = {"patch_embed.proj.weight": state["patch_embed.proj.weight"][..., :8, :8].contiguous()}
    assert "its patches are of (8, 8) pixels, not (16, 16)" in message("test_vit", **smaller)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ".npz"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 no zip", bytes(1000)])
def test_damaged_file(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    assert f"x{suffix}" in refusal(f"test_vit:{path}")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 1}, {"model": {"a": "b"}}, torch.ones(3), {1: torch.ones(1)}])
def test_file_that_holds_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    assert "holds no state dict" in refusal(f"test_vit:{tmp_path / 'x.pth'}")


def test_file_of_an_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "x.h5").touch()
    assert "use one of .safetensors, .npz, .pth" in refusal(f"test_vit:{tmp_path / 'x.h5'}")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickle_that_runs_code_is_refused(state: dict[str, torch.Tensor], tmp_path: Path, save) -> None:
    save({**state, "extra": Malicious(tmp_path / "ran")}, tmp_path / "x.pth")
    assert "would run code" in refusal(f"test_vit:{tmp_path / 'x.pth'}")
    assert not (tmp_path / "ran").exists()


def test_hub_out_of_reach() -> None:
    message = refusal("vit_tiny_patch16_224")
    for part in (
        "the hub did not give",
        "--checkpoint vit_tiny_patch16_224:PATH",
        "--no-pretrained",
        "embedded default",
    ):
        assert part in message


def test_weights_of_the_hub(state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    backbone = ViT("test_vit")
    assert backbone.weights() == Weights("test_vit.r160_in1k", "hub", "")
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    cache = {("timm/test_vit.r160_in1k", "model.safetensors"): str(path)}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repo, name, **_: cache.get((repo, name)))
    assert_loaded(backbone.build(), state)
    assert backbone.weights().checksum == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("published", [["model.safetensors", "pytorch_model.bin"], ["pytorch_model.bin"]])
def test_download_from_the_hub(state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch, published) -> None:
    import huggingface_hub

    save_file(state, tmp_path / "model.safetensors")
    torch.save(state, tmp_path / "pytorch_model.bin")
    asked = []

    def model_info(self, repository: str, **_):
        siblings = [SimpleNamespace(rfilename=name) for name in ["README.md", *published]]
        return SimpleNamespace(siblings=siblings, sha="", private=False)

    def download(repository: str, filename: str, **_: object) -> str:
        asked.append((repository, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *names, **options: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert_loaded(ViT("test_vit").build(), state)
    assert asked == [("timm/test_vit.r160_in1k", published[0])]


def test_model_without_published_weights() -> None:
    name = next(n for n in timm.list_models("vit_*", module="vision_transformer") if not timm.is_model_pretrained(n))
    assert f"timm has no weights of {name}" in refusal(name)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module."])
def test_names_of_a_compiled_or_shared_model(state: dict[str, torch.Tensor], tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"{prefix}{name}": value for name, value in state.items()}, path)
    assert_loaded(ViT(f"test_vit:{path}").build(), state)


def test_a_weight_that_is_not_finite_is_named(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({**state, "norm.bias": torch.full_like(state["norm.bias"], torch.inf)}, path)
    assert "has a weight that is not finite: norm.bias" in refusal(f"test_vit:{path}")
    arrays = google_weights(state, 4)
    arrays["Transformer/encoder_norm/bias"][0] = np.nan
    np.savez(tmp_path / "x.npz", **arrays)
    message = refusal(f"test_vit:{tmp_path / 'x.npz'}")
    assert "has a weight that is not finite: Transformer/encoder_norm/bias" in message


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert "is a pointer of Git LFS and not the file itself: run git lfs pull" in refusal(f"test_vit:{path}")


def test_a_name_that_is_too_long_for_a_file() -> None:
    assert "there is no file" in refusal(f"test_vit:{'y' * 300}.pth")
