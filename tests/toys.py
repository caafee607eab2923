"""A backbone and a task that are small enough to train in a second, for tests of everything around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import timm
import torch
from PIL.Image import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from zipeft import registry
from zipeft.backbone import ImageBackbone, Weights
from zipeft.task import Classification, Data, Preset, Split
from zipeft.test_lock import TestKey

SIZE = 16


@dataclass(frozen=True)
class ToyViT(ImageBackbone):
    """A ViT of four narrow blocks with random weights."""

    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            settings = {"img_size": SIZE, "patch_size": 4, "embed_dim": 32, "depth": 4, "num_heads": 2}
            model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg", **settings).eval()
            for name, parameter in model.named_parameters():  # as large as a trained model's; timm starts near zero
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
                elif name.endswith("bias"):
                    nn.init.normal_(parameter, std=0.1)
            return model

    def weights(self) -> Weights:
        return Weights(self.checkpoint or "toy", "random", "")

    def blocks(self, model: nn.Module) -> Sequence[nn.Module]:
        return list(model.blocks)

    def width(self, model: nn.Module) -> int:
        return model.num_features

    def features(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs)

    def image_transform(self, size: int) -> Callable[[Image | Tensor], Tensor]:
        return lambda image: image if isinstance(image, Tensor) else pil_to_tensor(image) / 255


@dataclass(frozen=True)
class ToyTask(Classification):
    """Noise with one bright colour channel, which is the label."""

    examples: int = 48
    classes: int = 3

    modality: ClassVar[str] = "image"
    presets: ClassVar[dict[str, Preset]] = {
        "quick": Preset(protocol={"epochs": 3, "batch_size": 8}, methods=("linear", "zero_gated"), seeds=2)
    }

    def datasets(self) -> Sequence[str]:
        return ("colours",)

    def load(self, dataset: str) -> Data:
        train, validation, test = (self._split(seed) for seed in range(3))
        names = ["red", "green", "blue"][: self.classes]
        return Data(dataset, names, train, validation, test, "drawn", f"{self.examples} {self.classes}")

    def encoder(self, backbone: ImageBackbone) -> Callable[[Tensor], Tensor]:
        return backbone.image_transform(SIZE)

    def _split(self, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        targets = [index % self.classes for index in range(self.examples)]
        images = torch.randn(self.examples, 3, SIZE, SIZE, generator=generator)
        for image, target in zip(images, targets, strict=True):
            image[target] += 0.5
        return Split(list(images), targets, [f"{seed}/{index}" for index in range(self.examples)])


@contextmanager
def registered() -> Iterator[None]:
    """Make the toys known as "toy" in this process."""
    registry.backbones.register("toy", ToyViT)
    registry.tasks.register("toy", ToyTask)
    try:
        yield
    finally:
        registry.backbones.unregister("toy")
        registry.tasks.unregister("toy")


def split_of(data: Data, name: str) -> Split:
    """Return a split of a data set; the test split as a run that has made its choice gets it."""
    if name != "test":
        return getattr(data, name)
    key = TestKey("a test of zipeft")
    key.chosen("nothing is left to choose")
    return data.test.open(key)
