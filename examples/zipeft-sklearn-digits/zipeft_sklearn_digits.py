"""scikit-learn's digits as a task. Heavy libraries are imported inside functions: listing stays instant."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft import Data, ImageTask, Preset, Split, UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

NAME = "sklearn_digits"


@dataclass(frozen=True)
class SklearnDigits(ImageTask):
    """Handwritten digits: 1,797 small images that scikit-learn brings (an example of a third-party plug-in).

    ``ImageTask`` resizes images to ``image_size``, gives them to the backbone, and learns their class by a linear head.
    A fifth of the images is for the test, a tenth of the rest for validation; ``split_seed`` draws both, by class.
    """

    presets: ClassVar[Mapping[str, Preset]] = {
        "quick": Preset(task={"image_size": 56}, protocol={"epochs": 5, "batch_size": 32}),
        "standard": Preset(task={"image_size": 112}, protocol={"epochs": 20, "batch_size": 64, "trials": 4}),
        "paper": Preset(task={"image_size": 224}, protocol={"epochs": 50, "batch_size": 64, "trials": 8}, seeds=5),
    }

    def datasets(self) -> Sequence[str]:
        if self.data_dir is not None:
            raise UserError("sklearn_digits has its data from scikit-learn: drop --data-dir")
        return (NAME,)

    def load(self, dataset: str) -> Data:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        if dataset not in self.datasets():
            raise UserError(f"there is no data set {dataset!r}, only {NAME}")
        found = load_digits()
        images, targets = [_image(pixels) for pixels in found.images], found.target.tolist()

        def part(indices: Sequence[int]) -> Split:
            # A name stands for one example for good: no two splits may share one.
            names = [f"{index:04}" for index in indices]
            return Split([images[index] for index in indices], [targets[index] for index in indices], names)

        def cut(indices: list[int], fraction: float) -> tuple[list[int], list[int]]:
            labels = [targets[index] for index in indices]
            return train_test_split(indices, test_size=fraction, stratify=labels, random_state=self.split_seed)

        seen, test = cut(list(range(len(targets))), 0.2)
        train, validation = cut(seen, 0.1)
        return Data(
            name=NAME,
            classes=[str(digit) for digit in found.target_names],
            train=part(train),
            validation=part(validation),
            test=part(test),
            source="scikit-learn load_digits",
            checksum=hashlib.sha256(found.data.tobytes() + found.target.tobytes()).hexdigest(),
            note=f"split 72/8/20 by class with seed {self.split_seed}",
        )


def _image(pixels: np.ndarray) -> Image:
    """Return pixels of 0 to 16 as a grey image."""
    from PIL import Image

    return Image.fromarray((pixels / 16 * 255).astype("uint8"))
