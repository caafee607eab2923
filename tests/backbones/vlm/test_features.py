"""Features of images: computed once, kept on disk bit for bit, and those of the blocks that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import PIL.Image
import pytest
import torch
from torch.nn.functional import layer_norm

from support.toys import SIZE, ToyCLIP, ToyViT
from zipeft.api.backbone import Weights
from zipeft.api.data import Picture
from zipeft.backbones.vlm.features import Encoder


def image(seed: int) -> PIL.Image.Image:
    pixels = torch.randint(256, (SIZE, SIZE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return PIL.Image.fromarray(pixels.numpy())


def picture(seed: int, name: str = "") -> Picture:
    return Picture(name or f"picture {seed}", lambda: image(seed))


def encoder(blocks=(), pooled="both", backbone=None) -> Encoder:
    return Encoder(backbone or ToyViT(), SIZE, blocks, pooled)


def outputs(seed: int, blocks: tuple[int, ...]) -> list[torch.Tensor]:
    """What the blocks of a toy return for an image, by running them one after the other."""
    model = ToyViT().build()
    with torch.no_grad():
        hidden = model._pos_embed(model.patch_embed(ToyViT().image_transform(SIZE)(image(seed))[None]))
        found = [hidden := block(hidden) for block in model.blocks]
    return [found[number - 1] for number in blocks]


@pytest.mark.parametrize("pooled", ["class", "mean", "both"])
@pytest.mark.parametrize("blocks", [(4,), (2, 4), (4, 1)])
def test_features_are_those_of_each_block_in_turn_concatenated(blocks, pooled):
    parts = []
    for hidden in outputs(0, blocks):
        if pooled != "mean":
            parts.append(hidden[:, 0])
        if pooled != "class":
            parts.append(hidden[:, 1:].mean(1))
    expected = torch.cat([layer_norm(part, (32,)) for part in parts], dim=1)[0]
    found = encoder(blocks, pooled).features(picture(0))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype == torch.float32
    assert encoder(blocks, pooled).width == len(found)


def test_no_blocks_are_the_last_one():
    assert torch.equal(encoder().features(picture(0)), encoder((4,)).features(picture(0)))


def test_an_image_is_computed_once_and_shared_while_it_is_in_use():
    made = encoder()
    first, again, other = made.features(picture(0)), made.features(picture(0)), made.features(picture(1))
    assert first is again
    assert not torch.equal(first, other)
    assert made.computed == 2


def test_the_same_pixels_under_other_names_are_computed_once():
    made = encoder()
    assert torch.equal(made.features(picture(0, "one")), made.features(picture(0, "two")))
    assert made.computed == 1


def test_other_pixels_under_the_same_name_have_features_of_their_own():
    """Two data sets may both have a "1.png"."""
    made = encoder()
    first, second = made.features(picture(0, "1.png")), made.features(picture(1, "1.png"))
    assert not torch.equal(first, second)


def test_after_a_restart_they_come_from_the_disk_bit_for_bit():
    computed = [encoder((1, 3)).features(picture(seed)) for seed in range(3)]
    again = encoder((1, 3))
    assert all(torch.equal(again.features(picture(seed)), one) for seed, one in enumerate(computed))
    assert again.computed == 0


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_file_is_made_again(damage):
    made = encoder()
    sound = made.features(picture(0)).clone()
    (file,) = made.folder.rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5] if damage is None else damage)
    again = encoder()
    assert torch.equal(again.features(picture(0)), sound)
    assert again.computed == 1
    assert file.read_bytes() == whole


def test_other_settings_and_weights_have_folders_of_their_own():
    made = [
        encoder(),
        encoder((1,)),
        encoder(pooled="class"),
        encoder(backbone=ToyViT(checkpoint="other")),
        Encoder(ToyViT(), 2 * SIZE, (), "both"),
    ]
    assert len({each.folder for each in made}) == len(made)


@dataclass(frozen=True)
class Downloaded(ToyViT):
    """An encoder whose checksum is known once it was built, as that of weights from a hub is."""

    revision: str = ""
    there: ClassVar[set[str]] = set()

    def build(self):
        self.there.add(self.revision)
        return super().build()

    def weights(self):
        return Weights("hub/model", "hub", self.revision if self.revision in self.there else "")


def test_features_of_weights_that_are_downloaded_first_are_kept_by_their_checksum():
    folders = [encoder(backbone=Downloaded(revision=revision)).folder for revision in "ab"]
    assert folders[0] != folders[1] != encoder(backbone=Downloaded()).folder


def test_features_of_another_kind_of_device_are_not_taken():
    here, there = encoder(), encoder()
    there.__dict__["_device"] = torch.device("meta")
    there.__dict__["_model"] = here._model
    assert here.folder != there.folder


@pytest.mark.parametrize("pooled", ["class", "mean", "both"])
def test_the_image_tower_of_a_clip_is_an_encoder(pooled):
    made = encoder((1, 2), pooled, ToyCLIP())
    features = made.features(picture(0))
    assert len(features) == made.width == 2 * 32 * (1 + (pooled == "both"))
    assert features.isfinite().all()
    assert torch.equal(encoder((1, 2), pooled, ToyCLIP()).features(picture(0)), features)
