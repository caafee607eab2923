"""Random crops and flips of training images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms.functional import pil_to_tensor

from support.toys import ToyViT
from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.experiments.options import RunOptions
from zipeft.experiments.plan import make_plan
from zipeft.images.augmentation import AUGMENTATIONS
from zipeft.tasks.fgvc.task import FGVC
from zipeft.tasks.folder import Folder

SIZE = 24
ACROSS, DOWN = np.meshgrid(np.linspace(0, 255, 60), np.linspace(0, 255, 40))
RAMP = PIL.Image.fromarray(np.stack([ACROSS, DOWN, 0 * DOWN], -1).astype("uint8"))
"""Red grows from left to right, green from top to bottom."""


def drawn(task, augmentation, times=200):
    encode = task.augmented_encoder(ToyViT(), augmentation)
    return torch.stack([encode(RAMP) for _ in range(times)])


def grows(images):
    """How red grows from the left edge to the right one, and green from the top to the bottom."""
    return images[:, 0, :, -1].mean(1) - images[:, 0, :, 0].mean(1), images[:, 1, -1].mean(1) - images[:, 1, 0].mean(1)


@pytest.mark.parametrize(
    "task", [Folder(image_size=SIZE), Folder(image_size=SIZE, resize="crop"), FGVC(image_size=SIZE)]
)
def test_a_flip_mirrors_half_of_the_images_and_changes_nothing_else(task):
    plain, images = task.encoder(ToyViT())(RAMP), drawn(task, "flip")
    flipped = [torch.equal(image, plain.flip(-1)) for image in images]
    assert all(is_flipped or torch.equal(image, plain) for image, is_flipped in zip(images, flipped, strict=True))
    assert 70 < sum(flipped) < 130  # within four standard deviations of 100


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_a_crop_is_any_part_of_the_image_left_or_right(resize):
    images = drawn(Folder(image_size=SIZE, resize=resize), "crop_flip")
    assert images.shape == (200, 3, SIZE, SIZE)
    red, green = grows(images)
    assert 70 < int((red < 0).sum()) < 130
    assert green.min() > 0  # nothing is turned upside down
    # A part of the area from 8 to 100 %, in a shape from 3:4 to 4:3 in pixels.
    width, height = red.abs() * 60, green * 40
    assert (width * height).min() > 0.04 * 60 * 40
    assert (width * height).max() > 0.6 * 60 * 40
    assert 0.6 < (width / height).min() < 0.85
    assert 1.15 < (width / height).max() < 1.6


def test_crops_are_bicubic_and_antialiased_as_images_are_in_evaluation():
    task = Folder(image_size=SIZE)
    whole = task.augmented_encoder(ToyViT(), "crop_flip")
    whole.transforms[1].scale = whole.transforms[1].ratio = (1.0, 1.0)
    square = RAMP.resize((40, 40))
    whole.transforms[3].p = 0.0
    assert torch.equal(whole(square), pil_to_tensor(square.resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC)) / 255)


def test_no_augmentation_is_no_part_of_an_identity():
    protocol = TrainingProtocol()
    assert "augmentation" not in protocol.of_run() | protocol.of_trial()
    for augmentation in AUGMENTATIONS[1:]:
        changed = replace(protocol, augmentation=augmentation)
        assert changed.of_run() == protocol.of_run() | {"augmentation": augmentation}
        assert changed.of_trial()["augmentation"] == augmentation


@pytest.mark.parametrize("name", registry.tasks.names())
def test_tasks_on_images_take_every_augmentation_and_others_refuse_in_one_line(name):
    modality = registry.tasks.get(name).modality
    backbone = next(each for each in registry.backbones.names() if registry.backbones.get(each).modality == modality)
    options = RunOptions(backbone=(backbone,), task=(name,), set=("protocol.augmentation=flip",))
    if modality in ("image", "image-text"):
        assert make_plan(options)[0].protocol.augmentation == "flip"
        return
    with pytest.raises(UserError, match=f"^the task {name} cannot be augmented by flip: augmentation is none$"):
        make_plan(options)
