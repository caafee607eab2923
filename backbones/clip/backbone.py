"""CLIP models of open_clip, frozen, by name: from the hub, from a file, at random, or the embedded icon CLIP."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.backbone import ImageTextBackbone, Weights
from zipeft.backbones.clip import choice as choices
from zipeft.backbones.clip import weights as clip_weights
from zipeft.errors import UserError
from zipeft.sources import package_archive
from zipeft.sources.hub_download import HubUnavailable, answered

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from zipeft.backbones.clip.matcher import ZeroShotCLIP
    from zipeft.modules.matching_adapter import MatchingAdapter


@dataclass(frozen=True)
class CLIP(ImageTextBackbone):
    """CLIP of open_clip (any ViT with open_clip's own text tower); by default a small one that was trained on icons.

    ``checkpoint`` is one of

    - "" or "icon_clip": the embedded default, a small CLIP that knows drawings of icons and their names; it is no
      published CLIP and knows no photographs;
    - "NAME/TAG" of open_clip ("ViT-B-16/openai"): published weights, from where open_clip has them;
    - "NAME:PATH" or "NAME/TAG:PATH": a local file of weights for open_clip's model NAME, as safetensors or as a state
      dict of PyTorch (.pt, .pth, .bin; read with ``weights_only``). Activation and preprocessing are those of TAG;
      without one, those of NAME and of OpenAI's CLIP. OpenAI's own weights want QuickGELU: write ViT-B-16/openai:PATH.

    With ``pretrained=False`` the model is open_clip's NAME at random weights, the same in every ``build``.
    """

    lora_targets: ClassVar[tuple[str, ...]] = ("attn",)

    def build(self) -> nn.Module:
        """Return a ``ZeroShotCLIP``, in float32 and evaluation mode, that knows no classes yet.

        Raises ``UserError`` for an unknown name or tag, a model with other towers than open_clip's own transformers,
        weights that cannot be had or read, and weights of another model.
        """
        from zipeft.backbones.clip import matcher

        choice = self._choice()
        file = self._file(choice) if self.pretrained else None
        model = matcher.create(choice.config)
        if file is not None:
            clip_weights.load(model, choice, file)
            self.tokenizer()  # which may have to be downloaded, before ``weights`` takes its checksum
        return matcher.ZeroShotCLIP(model)

    def weights(self) -> Weights:
        """Say where the weights come from, without building the model.

        The checksum of published weights is that of the file in the local cache: "" before it is downloaded. Where the
        tokenizer is a model's of the hub, it is part of the checksum.
        """
        choice = self._choice()
        if not self.pretrained:
            return Weights(choice.label, "random", "")
        if choice.is_embedded:
            return Weights(choice.label, "in the tree", package_archive.file_sha256(choices.embedded_file()))
        if choice.file is not None:
            return _of_file(f"{choice.label}:{choice.file.name}", "local file", choice.file, choice)
        file = clip_weights.cached(choice)
        source = "hub" if choice.published.get("hf_hub") else "published with open_clip"
        return _of_file(choice.label, source, file, choice) if file else Weights(choice.label, source, "")

    def blocks(self, model: ZeroShotCLIP) -> Sequence[nn.Module]:
        """Return the blocks of the image tower; each takes and returns hidden states (batch, tokens, width)."""
        return list(model.clip.visual.transformer.resblocks)

    def towers(self, model: ZeroShotCLIP) -> Mapping[str, Sequence[nn.Module]]:
        """Return the blocks of both towers, "image" and "text"."""
        return {"image": self.blocks(model), "text": list(model.text.transformer.resblocks)}

    def width(self, model: ZeroShotCLIP) -> int:
        """Return the width of the space that images and texts share."""
        return model.clip.visual.output_dim

    def hidden_width(self, model: ZeroShotCLIP) -> int:
        """Return the width of the image tower."""
        return model.clip.visual.transformer.width

    def features(self, model: ZeroShotCLIP, inputs: Tensor) -> Tensor:
        """Return image embeddings (batch, width) as the projection leaves them.

        They are not normalised, as in CoOp's linear probe: normalised ones have values of about width ** -0.5, too
        small for the learning rates at which heads are trained here.
        """
        return model.clip.encode_image(_checked(model, inputs))

    def matches(self, model: ZeroShotCLIP, inputs: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, 3, height, width), of the model's own size."""
        return model(_checked(model, inputs))

    def class_features(self, model: ZeroShotCLIP) -> Tensor:
        """Return the normalised text features (classes, width) of the named classes, kept while they do not change."""
        return model.class_features()

    def name_classes(self, model: ZeroShotCLIP, classes: Sequence[str], templates: Sequence[str]) -> None:
        """Set the class names that ``matches`` scores, replacing earlier ones; underscores are read as spaces.

        Raises ``UserError``, with the text, where one is longer than the model takes.
        """
        model.name_classes(classes, templates, self.tokenizer())

    def classes(self, model: ZeroShotCLIP) -> tuple[str, ...]:
        return model.classes

    def learn_context(
        self,
        model: ZeroShotCLIP,
        length: int,
        initial: str = "",
        behind: str = "",
        condition: Callable[[int, int], nn.Module] | None = None,
    ) -> nn.Parameter:
        """Let ``length`` learnt words (length, text width) stand before the names, in place of the templates.

        Raises ``UserError`` if they leave no room for a name, or ``initial`` is not of ``length`` tokens.
        """
        return model.learn_context(length, initial, self.tokenizer(), behind, condition)

    def forget_context(self, model: ZeroShotCLIP) -> None:
        model.forget_context(self.tokenizer())

    def adapt_matching(self, model: ZeroShotCLIP, adapter: MatchingAdapter) -> None:
        from zipeft.backbones.clip import matcher

        model.add_module(matcher.ADAPTER, adapter)

    def preprocess(self) -> Callable[[Image], Tensor]:
        """Return open_clip's own transform for evaluation, with the sizes and the colours of the weights."""
        from open_clip.transform import PreprocessCfg, image_transform_v2

        return image_transform_v2(PreprocessCfg(**self._choice().preprocessing), is_train=False)

    def tokenizer(self) -> Any:
        """Return open_clip's tokenizer of the model. Raises ``UserError`` if it is on the hub and cannot be had."""
        return _tokenizer(self._choice())

    def _choice(self) -> choices.Choice:
        return choices.parse(self.checkpoint, self.pretrained)

    def _file(self, choice: choices.Choice) -> Any:
        if choice.is_embedded:
            return choices.embedded_file()
        return choice.file or clip_weights.fetch(choice)


def _of_file(name: str, source: str, file: Path, choice: choices.Choice) -> Weights:
    weights = package_archive.file_sha256(file)
    if not (repository := choice.config["text_cfg"].get("hf_tokenizer_name")):
        return Weights(name, source, weights)
    from zipeft.backbones.transformers_models import hub

    beside = hub.tokenizer_checksum(repository)
    return Weights(name, source, hashlib.sha256(f"{weights}{beside}".encode()).hexdigest(), older=weights)


@cache
def _tokenizer(choice: choices.Choice) -> Any:
    import open_clip

    if choice.is_embedded:
        return open_clip.SimpleTokenizer(context_length=choice.config["text_cfg"]["context_length"])
    try:
        with answered():
            return open_clip.get_tokenizer(choice.name)
    except HubUnavailable as reason:
        raise UserError(f"the tokenizer of {choice.label} cannot be had ({reason})") from reason


def _checked(model: ZeroShotCLIP, images: Tensor) -> Tensor:
    """Return the images. Raises ``UserError`` if they are not of the size for which the model has positions."""
    size = tuple(model.clip.visual.image_size)
    if tuple(images.shape[-2:]) != size:
        given = " x ".join(map(str, images.shape[-2:]))
        raise UserError(f"the images are of {given} pixels, and this model takes {' x '.join(map(str, size))} alone")
    return images
