"""What tasks on images with named classes share: their settings, and the data sets in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.protocol import Augmentation
from zipeft.api.published_sets import PublishedSetsTask
from zipeft.errors import require
from zipeft.images.augmentation import AUGMENTATIONS, augmented
from zipeft.last_only import LastOnly
from zipeft.sources.named_sets import NamedSets
from zipeft.sources.splits import check_seed
from zipeft.tasks.coop.sets import NAMED, SETS

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zipeft.api.backbone import ImageTextBackbone
    from zipeft.tasks.coop.shots import Pool

EMBEDDED = "icons"

ICON_TEMPLATE = "a {} icon"
"""The first of the texts that the embedded CLIP was trained on."""


@dataclass(frozen=True)
class NamedClassesTask(PublishedSetsTask):
    """Images with named classes, in CoOp's layout or embedded.

    Images go through the model's own preprocessing, in training too, unless the protocol augments them: CoOp's random
    crops and flips are "crop_flip".
    """

    template: str = ""
    """The text of a class, with {} for its name; empty for the one that the data set has."""

    skip_broken: bool = False
    """Decode every file when the data are loaded and leave out those that fail; else the first of them ends the run."""

    split_seed: int = 0
    """Seed of the validation data where the data bring none: of the embedded icons and of ImageNet."""

    modality: ClassVar[str] = "image-text"
    augmentations: ClassVar[tuple[Augmentation, ...]] = AUGMENTATIONS
    named: ClassVar[NamedSets] = NAMED
    embedded: ClassVar[Sequence[str]] = (EMBEDDED,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.template.count("{}") == 1 or not self.template, "template: write {} once, for the class's name")
        check_seed(self.split_seed)

    def encoder(self, backbone: ImageTextBackbone) -> Callable[[Image], Tensor]:
        """Return the model's own preprocessing of an RGB image."""
        return backbone.preprocess()

    def augmented_encoder(self, backbone: ImageTextBackbone, augmentation: Augmentation) -> Callable[[Image], Tensor]:
        """Return the model's own preprocessing at random: see ``augmented``."""
        import PIL.Image

        encode = self.encoder(backbone)
        size = encode(PIL.Image.new("RGB", (256, 256))).shape[-1]
        return augmented(augmentation, encode, encode, size)

    def pool(self, name: str) -> Pool:
        """Return a data set in full; the last one is kept, as several data sets of few shots share it."""
        return self._pools.get(name)

    def templates(self, name: str) -> tuple[str, ...]:
        """Return the texts of a class of a data set, without a look at whether it is there."""
        return (self.template or (ICON_TEMPLATE if name == EMBEDDED else SETS[name].template),)

    def shifted_folders(self) -> dict[str, Path]:
        """Return the folders of test data from other domains, by their names."""
        return {}

    @cached_property
    def _pools(self) -> LastOnly[str, Pool]:
        return LastOnly(self._load)

    def _load(self, name: str) -> Pool:
        if self.data_dir is None:
            from zipeft.tasks.coop.icons import load_icons

            return load_icons(self.split_seed)
        from zipeft.tasks.coop.data import load_pool

        root = NAMED.places(self.data_dir)[name]
        return load_pool(name, root, self.shifted_folders(), self.split_seed, self.skip_broken)
