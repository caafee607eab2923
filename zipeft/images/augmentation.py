"""Augmentation of training images: random crops and flips, drawn from PyTorch's random numbers of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zipeft.images.reading import to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zipeft.api.protocol import Augmentation

AUGMENTATIONS: tuple[Augmentation, ...] = ("none", "flip", "crop_flip")
"""What tasks on images take."""


def augmented(
    augmentation: Augmentation, encode: Callable[[Image], Tensor], normalise: Callable[[Image], Tensor], size: int
) -> Callable[[Image], Tensor]:
    """Return the function from an image of any size to what a backbone takes (3, size, size), another in every call.

    Args:
        augmentation: "flip" mirrors what ``encode`` returns, left to right, with probability 1/2; "crop_flip" does so
            with a random part of the image, 8 to 100 % of its area and 3:4 to 4:3 in shape, stretched to the square
            (bicubic): the augmentation of VPT on FGVC (arXiv 2203.12119) and of CoOp (arXiv 2109.01134).
        encode: from an image of any size to (3, size, size), as in evaluation.
        normalise: the same of an RGB image that has ``size`` x ``size`` pixels already.
        size: in pixels.
    """
    from torchvision.transforms import v2

    flip = v2.RandomHorizontalFlip()
    if augmentation == "flip":
        return v2.Compose([encode, flip])
    crop = v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC)
    return v2.Compose([to_rgb, crop, normalise, flip])
