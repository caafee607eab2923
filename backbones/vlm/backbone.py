"""Vision-language models: a registered decoder, frozen, with a registered image encoder, frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from zipeft import registry
from zipeft.api.backbone import Backbone, Weights
from zipeft.api.data import Picture
from zipeft.api.language_backbone import LanguageBackbone, VisionLanguageBackbone
from zipeft.errors import UserError, require

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerFast

    from zipeft.backbones.vlm.features import Encoder
    from zipeft.backbones.vlm.model import VisionLanguageModel

ENCODERS = ("image", "image-text")
DECODERS = ("instruction",)
FORM = "write a backbone's name, or NAME:CHECKPOINT (zipeft ls backbones lists them)"


@dataclass(frozen=True)
class VLM(VisionLanguageBackbone):
    """A language model that is shown images: any registered decoder with any registered image encoder.

    ``language`` and ``vision`` each name a registered backbone, alone for its default checkpoint or with another one
    behind a colon: "llama:meta-llama/Llama-3.2-1B", "vit:vit_base_patch16_224", "clip:ViT-L-14/openai". Embedded:
    SmolLM2-135M-Instruct with DINOv2-S. Both are frozen; of an image the decoder is shown global features alone, and
    how they enter is the method's.
    """

    language: str = "llama"
    vision: str = "vit"

    image_size: int = 112
    """Side, in pixels, of the square that the encoder sees; a CLIP keeps its own."""

    vision_blocks: tuple[int, ...] = ()
    """The blocks of the encoder whose tokens are taken, counted from 1; empty for the last."""

    pooled: Literal["class", "mean", "both"] = "both"
    """What is taken of each: its class token, the mean of its patches, or both."""

    bottleneck: int = 0
    """Channels of the projection's hidden layer; 0 for a linear projection."""

    image_tokens: int = 1
    """Tokens that stand for an image where it enters in front of the text."""

    weight_settings: ClassVar[tuple[str, ...]] = ("checkpoint", "pretrained", "language", "vision")

    def __post_init__(self) -> None:
        require(not self.checkpoint, f"vlm has two checkpoints: set vlm.language and vlm.vision; {FORM}")
        require(1 <= self.image_size <= 4096, "image_size must be from 1 to 4,096")
        require(0 <= self.bottleneck <= 100_000, "bottleneck must be from 0 (none) to 100,000")
        require(1 <= self.image_tokens <= 1000, "image_tokens must be from 1 to 1,000")

    # --- its two parts ------------------------------------------------------------------------------------------------

    @property
    def decoder(self) -> LanguageBackbone:
        """The language model's backbone."""
        return cast("LanguageBackbone", self._part("language", self.language, DECODERS))

    @property
    def image_backbone(self) -> Backbone:
        """The image encoder's backbone."""
        return self._part("vision", self.vision, ENCODERS)

    @property
    def encoder(self) -> Encoder:
        """What makes features of images; the same object for the same settings."""
        import torch

        on_meta = torch.get_default_device().type == "meta"
        return _encoder(self.image_backbone, self.image_size, self.vision_blocks, self.pooled, on_meta)

    def _part(self, setting: str, text: str, kinds: Sequence[str]) -> Backbone:
        name, _, checkpoint = text.partition(":")
        cls = registry.backbones.get(name)
        if cls.modality not in kinds:
            raise UserError(f"vlm.{setting} is {name}, which takes {cls.modality}s: take one for {' or '.join(kinds)}s")
        return cls(checkpoint=checkpoint, pretrained=self.pretrained)

    # --- a backbone ---------------------------------------------------------------------------------------------------

    @property
    def lora_targets(self) -> tuple[str, ...]:  # type: ignore[override]  # it is the decoder's
        return self.decoder.lora_targets

    @property
    def takes_branches(self) -> bool:  # type: ignore[override]  # as above
        return self.decoder.takes_branches

    def build(self) -> VisionLanguageModel:
        """Return the decoder, in float32 and evaluation mode; the encoder is built when the first image is seen."""
        from zipeft.backbones.vlm.model import VisionLanguageModel

        return VisionLanguageModel(self.decoder.build()).eval()

    def weights(self) -> Weights:
        """Say where the weights of both parts come from; the checksum covers both."""
        parts = self.decoder.weights(), self.image_backbone.weights()
        checksums = [part.checksum for part in parts]
        return Weights(
            " + ".join(part.checkpoint for part in parts),
            " and ".join(dict.fromkeys(part.source for part in parts)),
            hashlib.sha256(" ".join(checksums).encode()).hexdigest() if all(checksums) else "",
        )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.decoder.tokenizer()

    def vocabulary(self) -> int:
        return self.decoder.vocabulary()

    def max_length(self) -> int:
        """Return how many tokens the decoder takes beside an image's."""
        return self.decoder.max_length() - self.image_tokens

    def blocks(self, model: VisionLanguageModel) -> Sequence[nn.Module]:
        """Return the decoder's blocks."""
        return self.decoder.blocks(model.language)

    def towers(self, model: VisionLanguageModel) -> Mapping[str, Sequence[nn.Module]]:
        return self.decoder.towers(model.language)

    def heads(self, model: VisionLanguageModel) -> Sequence[nn.Module]:
        """Return the projection, which is the same for every method that an image enters."""
        return [model.image_entry.projection] if model.image_entry else []

    def width(self, model: VisionLanguageModel) -> int:
        return self.decoder.width(model.language)

    def hidden_width(self, model: VisionLanguageModel) -> int:
        return self.decoder.hidden_width(model.language)

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> dict[str, Tensor]:
        """Return random tokens with random images; the last quarter of each example is the response."""
        import torch

        batch = super().random_batch(batch_size, length=length)
        with torch.device("meta"):
            width = self.encoder.width
        images = torch.randn(batch_size, width, generator=torch.Generator().manual_seed(0))
        return {**batch, "image": images, "has_image": torch.ones(batch_size, 1, dtype=torch.bool)}

    # --- images -------------------------------------------------------------------------------------------------------

    def image_inputs(self, picture: Picture | None) -> dict[str, Tensor]:
        import torch

        features = torch.zeros(self.encoder.width) if picture is None else self.encoder.features(picture)
        return {"image": features, "has_image": torch.tensor([picture is not None])}

    def admit_images(self, model: VisionLanguageModel, entry: str, hides_question: bool = False) -> None:
        from zipeft.modules import image_entry

        model.hides_question = hides_question
        width, device = self.hidden_width(model), next(model.parameters()).device
        if entry == "none":
            return
        if entry in ("condition", "early"):
            kind = {"condition": image_entry.ImageCondition, "early": image_entry.EarlyCondition}[entry]
            model.image_entry = kind(self._projection(width)).to(device)
        elif entry == "tokens":
            tokens = image_entry.ImageTokens(self._projection(width * self.image_tokens), self.image_tokens)
            # First of all hooks: tokens of a method's own stand in front of the image.
            self.blocks(model)[0].register_forward_pre_hook(tokens.enter, prepend=True, with_kwargs=True)
            model.image_entry = tokens.to(device)
        else:
            raise UserError(f"an image enters as tokens, condition, early or none, not as {entry!r}")

    def _projection(self, width: int) -> nn.Module:
        from zipeft.modules.image_entry import projection

        return projection(self.encoder.width, width, self.bottleneck)

    # --- a decoder ----------------------------------------------------------------------------------------------------

    def tokens(self, model: VisionLanguageModel, inputs: dict[str, Tensor]) -> Tensor:
        """Return the last hidden states (batch, tokens, width) of the text, zeros where the attention mask is zero."""
        with model.shown(inputs) as texts:
            return self.decoder.tokens(model.language, texts)[:, model.image_tokens :]

    def logits(self, model: VisionLanguageModel, hidden: Tensor) -> Tensor:
        return self.decoder.logits(model.language, hidden)

    def generate(
        self, model: VisionLanguageModel, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any
    ) -> list[list[int]]:
        copies = max(options.get("num_beams", 1), options.get("num_return_sequences", 1))
        with model.shown(inputs, copies) as texts:
            return self.decoder.generate(model.language, texts, max_new_tokens, **options)


@lru_cache(maxsize=4)
def _encoder(backbone: Backbone, image_size: int, blocks: tuple[int, ...], pooled: str, on_meta: bool) -> Encoder:
    """Return an encoder; one on the meta device computes no features, and is not the one that does."""
    from zipeft.backbones.vlm.features import Encoder

    return Encoder(backbone, image_size, blocks, pooled)
