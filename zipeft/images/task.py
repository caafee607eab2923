"""What image tasks share: their settings, and how pixels become what a backbone takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from zipeft.api.protocol import Augmentation
from zipeft.api.settings import setting
from zipeft.api.task import Task
from zipeft.errors import UserError
from zipeft.images.augmentation import AUGMENTATIONS, augmented
from zipeft.images.reading import fit, to_rgb
from zipeft.objectives.classification import Classification
from zipeft.sources.splits import check_seed

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zipeft.api.backbone import ImageBackbone

RESIZES = ("stretch", "crop")

LARGEST = 4096
"""The largest side of what a backbone sees: beyond it, a number is more likely to be a slip."""


@dataclass(frozen=True)
class ImageTask(Task):
    """Classification of images: settings that every image task has."""

    image_size: int = 224
    """Side, in pixels, of the square that the backbone sees."""

    resize: Literal["stretch", "crop"] = setting("stretch", recorded_values={"stretch": "squash"})
    """How an image becomes that square: "stretch" ignores its shape; "crop" keeps it and takes the centre, as resizing
    the shorter side to 256 and cropping 224 does."""

    skip_broken: bool = False
    """Decode every file when the data are loaded and leave out those that fail; else the first of them ends the run."""

    split_seed: int = 0
    """Seed of the splits (and of the choice of classes) where the data bring none of their own."""

    modality: ClassVar[str] = "image"
    augmentations: ClassVar[tuple[Augmentation, ...]] = AUGMENTATIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.image_size <= LARGEST:
            raise UserError(f"image_size is {self.image_size}: give a number of pixels from 1 to {LARGEST:,}")
        if self.resize not in RESIZES:
            raise UserError(f"resize is {self.resize!r}: give one of {' or '.join(RESIZES)}")
        check_seed(self.split_seed)

    def objective(self, dataset: str, classes: Sequence[str]) -> Classification:
        return Classification()

    def encoder(self, backbone: ImageBackbone) -> Callable[[Image], Tensor]:
        """Return the function from one PIL image to the backbone's tensor (3, image_size, image_size)."""
        transform = backbone.image_transform(self.image_size)
        return partial(_encode, size=self.image_size, resize=self.resize, transform=transform)

    def augmented_encoder(self, backbone: ImageBackbone, augmentation: Augmentation) -> Callable[[Image], Tensor]:
        """Return the function from one PIL image to a tensor as ``encoder`` gives it, at random: see ``augmented``."""
        normalise = backbone.image_transform(self.image_size)
        return augmented(augmentation, self.encoder(backbone), normalise, self.image_size)


def _encode(image: Image, size: int, resize: str, transform: Callable[[Image], Tensor]) -> Tensor:
    return transform(fit(to_rgb(image), size, resize))
