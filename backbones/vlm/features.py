"""Features of images by a frozen encoder: computed once an image, shared by all runs, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from zipeft.api.backbone import Backbone, ImageBackbone, ImageTextBackbone
from zipeft.api.data import Picture
from zipeft.errors import UserError
from zipeft.files import write_atomically
from zipeft.images.reading import fit, to_rgb
from zipeft.sources.package_archive import cache_dir

if TYPE_CHECKING:
    from PIL.Image import Image

FORMAT = 2
"""Raised whenever the same settings give other features than before."""


class Encoder:
    """Global features of images: of chosen blocks of a frozen encoder, concatenated on channels.

    Args:
        backbone: any that takes images, alone or with texts.
        image_size: side in pixels of the square that it sees; an encoder that comes with its own transform keeps that.
        blocks: which blocks' outputs to take, counted from 1; empty for the last.
        pooled: "class" takes the first token of each, "mean" the mean of the patches, "both" the two.
    """

    def __init__(self, backbone: Backbone, image_size: int, blocks: Sequence[int], pooled: str) -> None:
        self.backbone, self.image_size, self.blocks, self.pooled = backbone, image_size, tuple(blocks), pooled
        self.computed = 0
        """How many images went through the encoder in this process."""
        self._shared: WeakValueDictionary[str, Tensor] = WeakValueDictionary()

    def features(self, picture: Picture) -> Tensor:
        """Return the features (width,) of a picture, the same object for the same pixels while it is in use."""
        image = picture.read()
        digest = hashlib.sha256(repr((image.mode, image.size)).encode() + image.tobytes()).hexdigest()
        found = self._shared.get(digest)
        if found is None:
            found = self._shared[digest] = self._kept(image, digest)
        return found

    def _kept(self, image: Image, digest: str) -> Tensor:
        """Return the features of an image from the disk, where they are put when they are computed."""
        path = self.folder / digest[:2] / f"{digest}.safetensors"
        try:
            return load_file(path)["features"]
        except (OSError, SafetensorError, KeyError):  # not there yet, or cut off by a full disk
            found = self._compute(image)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, save({"features": found}))
            return found

    @cached_property
    def folder(self) -> Path:
        """The folder of all features that the encoder has made with these settings, on a kind of device."""
        _ = self._model  # the checksum of downloaded weights is known once they are there
        weights, device = self.backbone.weights(), self._device.type
        identity = [FORMAT, weights.checkpoint, weights.checksum, device, self.image_size, *self.blocks, self.pooled]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
        return cache_dir() / "features" / key[:32]

    @torch.no_grad()
    def _compute(self, image: Image) -> Tensor:
        """Return the features of one image: on a CPU, batches are hardly faster, and need not give the same bits."""
        self.computed += 1
        batch = self._transform(image)[None].to(self._device)
        return self._pool(batch)[0].float().cpu()

    def _pool(self, batch: Tensor) -> Tensor:
        """Return the features (batch, width) of images: those of each token taken scaled to mean 0 and variance 1."""
        leading = self.backbone.leading_tokens(self._model)
        with _outputs(self._chosen) as outputs:
            self.backbone.features(self._model, batch)
        parts = []
        for hidden in outputs:
            if self.pooled != "mean" and leading:
                parts.append(hidden[:, 0])
            if self.pooled != "class" or not leading:
                parts.append(hidden[:, leading:].mean(1))
        return torch.cat([nn.functional.layer_norm(part.float(), part.shape[-1:]) for part in parts], dim=-1)

    @cached_property
    def _model(self) -> nn.Module:
        return self.backbone.build().requires_grad_(False).eval().to(self._device)

    @cached_property
    def _device(self) -> torch.device:
        default = torch.get_default_device()
        if default.type == "meta":  # parameters are counted, of a model that is nowhere
            return default
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def _chosen(self) -> list[nn.Module]:
        blocks = self.backbone.blocks(self._model)
        for number in self.blocks:
            if not 1 <= number <= len(blocks):
                raise UserError(f"vision_blocks has {number}; the image encoder has blocks 1 to {len(blocks)}")
        return [blocks[number - 1] for number in self.blocks] or [blocks[-1]]

    @cached_property
    def _transform(self) -> Callable[[Image], Tensor]:
        if isinstance(self.backbone, ImageTextBackbone):
            return self.backbone.preprocess()
        if not isinstance(self.backbone, ImageBackbone):
            raise UserError(f"{type(self.backbone).__name__} takes {self.backbone.modality}s: name an image encoder")
        transform, size = self.backbone.image_transform(self.image_size), self.image_size
        return lambda image: transform(fit(to_rgb(image), size, "stretch"))

    @cached_property
    def width(self) -> int:
        """The number of features, by one forward pass on nothing."""
        from PIL import Image

        with torch.no_grad():
            return self._pool(self._transform(Image.new("RGB", (64, 64)))[None].to(self._device)).shape[-1]


@contextmanager
def _outputs(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that holds, after a forward pass in this context, what each of the blocks returned."""
    found: dict[int, Tensor] = {}
    outputs: list[Tensor] = []

    def keep(index: int) -> Any:
        def hook(_block: nn.Module, _args: Any, hidden: Any) -> None:
            found[index] = hidden[0] if isinstance(hidden, tuple) else hidden
            if len(found) == len(blocks):
                outputs[:] = [found[at] for at in range(len(blocks))]

        return hook

    handles = [block.register_forward_hook(keep(index)) for index, block in enumerate(blocks)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
