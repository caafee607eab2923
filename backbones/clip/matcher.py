"""A model of open_clip, and the classes that it tells apart by their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.backbones.clip.texts import Tokenizer, tokens_behind_words, tokens_of_templates, tokens_of_words
from zipeft.errors import UserError
from zipeft.modules.matching_adapter import MatchingAdapter

ADAPTER = "matching_adapter"
"""The submodule of a model that changes its matches."""

AT_ONCE = 256
"""How many texts are encoded at once, which bounds the memory that many classes take."""


def create(config: Mapping[str, Any]) -> nn.Module:
    """Return a model of open_clip at random weights, the same each time, in float32 and evaluation mode."""
    settings = dict(config)
    kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return kind(**settings).eval()


class ZeroShotCLIP(nn.Module):
    """A model of open_clip that matches images with classes, which it knows by their names.

    The features of the classes' texts are kept from one forward to the next as long as no parameter that makes them
    changes: for good where the text tower is frozen, and where it trains while gradients are off.
    """

    clip: Any
    """A model of open_clip, whose classes have no type in common."""
    tokens: Tensor | None
    context: nn.Parameter | None
    condition: nn.Module | None
    """What an image's normalised features (batch, width) add to each learnt word (batch, text width)."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip, self.training = clip, clip.training
        self.classes: tuple[str, ...] = ()
        self.templates: tuple[str, ...] = ()
        self.register_buffer("tokens", None, persistent=False)
        self.register_parameter("context", None)
        self.register_module("condition", None)
        self._words_behind = ""
        self._kept: tuple[tuple[Any, ...], Tensor, list[Tensor]] | None = None

    @property
    def text(self) -> Any:
        """The module that holds the text tower's parts: the model itself, or a tower of its own."""
        return getattr(self.clip, "text", self.clip)

    @property
    def adapter(self) -> MatchingAdapter | None:
        """What changes the matches behind the towers, if anything does."""
        found = self._modules.get(ADAPTER)
        return found if isinstance(found, MatchingAdapter) else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (batch, classes) of images (batch, 3, height, width): scaled cosines."""
        features = self.clip.encode_image(images)  # first: a prefix ends in this tower
        if adapter := self.adapter:
            features = adapter.images(features)
        features = functional.normalize(features, dim=-1)
        if self.condition is None:
            logits = self.clip.logit_scale.exp() * features @ self.class_features().T
        else:
            texts = self._conditioned_features(self.condition(features))
            logits = self.clip.logit_scale.exp() * (texts @ features[:, :, None]).squeeze(-1)
        if self.clip.logit_bias is not None:
            logits = logits + self.clip.logit_bias
        return adapter.logits(logits, features, self.classes) if adapter else logits

    def name_classes(self, classes: Sequence[str], templates: Sequence[str], tokenizer: Tokenizer) -> None:
        """Tell apart these classes from now on. Raises ``UserError`` for a text that is too long."""
        named = tuple(classes), tuple(templates)
        if named != (self.classes, self.templates):
            self._know(*named, tokenizer, 0 if self.context is None else len(self.context), self._words_behind)

    def learn_context(
        self,
        length: int,
        initial: str,
        tokenizer: Tokenizer,
        behind: str = "",
        condition: Callable[[int, int], nn.Module] | None = None,
    ) -> nn.Parameter:
        """Let learnt words stand before the names from now on, and return them; ``behind`` stand between.

        ``condition`` makes the module of that name, from the widths of features and of words.

        Raises: ``UserError`` if there is no room for so many, or ``initial`` are not as many.
        """
        embedding = self.text.token_embedding.weight
        start = torch.empty(length, embedding.shape[1], device=embedding.device, dtype=torch.float32).normal_(std=0.02)
        if initial:
            words = tokens_of_words(tokenizer, initial)
            if len(words) != length:
                raise UserError(f"the initial words {initial!r} are {len(words)} tokens, and length is {length}")
            start = embedding[words.to(embedding.device)].detach().float()
        self._know(self.classes, self.templates, tokenizer, length, behind)
        self.context, self._words_behind = nn.Parameter(start), behind
        if condition is not None:
            self.condition = condition(self.clip.visual.output_dim, embedding.shape[1])
        return self.context

    def forget_context(self, tokenizer: Tokenizer) -> None:
        """Let the templates stand around the names again."""
        self.context = self.condition = None
        self._know(self.classes, self.templates, tokenizer, 0)

    def class_features(self) -> Tensor:
        """Return the normalised text features (classes, width), averaged over templates.

        Raises: ``UserError`` if no classes are named, or their features are others for each image.
        """
        if self.condition is not None:
            raise UserError("the texts of this model's classes are others for each image: matches has their cosines")
        features = self._averaged_features()
        if adapter := self.adapter:
            features = adapter.classes(features, self.classes)
        return functional.normalize(features, dim=-1)

    def _averaged_features(self) -> Tensor:
        """Return the text features (classes, width), averaged over templates and not normalised again."""
        self._check_named()
        if torch.is_grad_enabled() and self._text_trains():
            self._kept = None
            return self._encode_classes()
        if self._kept is None or self._kept[0] != self._state()[0]:
            with torch.inference_mode(False), torch.no_grad():
                features = self._encode_classes()
            # Read again: peft's LoRA replaces a frozen attention's weights by equal ones at every forward.
            state, read = self._state()
            self._kept = state, features, read
        return self._kept[1]

    def train(self, mode: bool = True) -> ZeroShotCLIP:
        """Forget what was kept if the text tower trains: fused optimisers change parameters without counting it."""
        if self._text_trains():
            self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}

    def _know(
        self,
        classes: tuple[str, ...],
        templates: tuple[str, ...],
        tokenizer: Tokenizer,
        words: int,
        behind: str = "",
    ) -> None:
        if words:
            names = [f"{behind} {name}" if behind else name for name in classes or ("",)]
            tokens = tokens_behind_words(tokenizer, names, words)
        else:
            tokens = tokens_of_templates(tokenizer, classes, templates)
        self.tokens = tokens.to(self.clip.logit_scale.device)
        self.classes, self.templates, self._kept = classes, templates, None

    def _check_named(self) -> None:
        if self.tokens is None or not self.classes:
            raise UserError("this model matches images with classes, and none are named yet")

    def _encode_classes(self) -> Tensor:
        assert self.tokens is not None  # classes are named
        parts = [self._encode(tokens, self.context) for tokens in self.tokens.flatten(0, 1).split(AT_ONCE)]
        features = torch.cat(parts).unflatten(0, self.tokens.shape[:2])
        return features.mean(1)

    def _conditioned_features(self, added: Tensor) -> Tensor:
        """Return the normalised text features (batch, classes, width) with words to which ``added`` (batch, text width)
        is added for each image."""
        self._check_named()
        assert self.tokens is not None
        assert self.context is not None  # else nothing would be added to
        words = self.context + added[:, None]
        tokens = self.tokens.flatten(0, 1).repeat(len(words), 1)  # behind learnt words each class has one text
        contexts = words.repeat_interleave(len(self.classes), 0)
        parts = zip(tokens.split(AT_ONCE), contexts.split(AT_ONCE), strict=True)
        return torch.cat([self._encode(*part) for part in parts]).unflatten(0, (len(words), len(self.classes)))

    def _encode(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        """Return the normalised features (texts, width) of tokens (texts, context length), with learnt words (length,
        text width), or others for each text (texts, length, text width), in their place."""
        if context is None:
            return self.clip.encode_text(tokens, normalize=True)
        with self.text.token_embedding.register_forward_hook(partial(_put_words, context)):
            return self.clip.encode_text(tokens, normalize=True)

    def _of_text(self) -> list[Tensor]:
        """Return the parameters that make text features."""
        others = ("clip.visual.", "clip.logit_", f"{ADAPTER}.")
        return [parameter for name, parameter in self.named_parameters() if not name.startswith(others)]

    def _text_trains(self) -> bool:
        return any(parameter.requires_grad for parameter in self._of_text())

    def _state(self) -> tuple[tuple[Any, ...], list[Tensor]]:
        """Return a state that changes whenever text features would, and its tensors, to keep them alive."""
        read = self._of_text()
        kind = read[0].device.type
        autocasts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        # The storage, not its address: a sharded parameter is gathered anew for each use, into the same one.
        return (autocasts, *((p.untyped_storage()._cdata, p._version, p.dtype, p.device) for p in read)), read


def _put_words(words: Tensor, _embedding: nn.Module, _args: tuple[Any, ...], embedded: Tensor) -> Tensor:
    """Put learnt words behind the token that begins each text."""
    words = words.to(embedded.dtype).expand(len(embedded), -1, -1)
    return torch.cat([embedded[:, :1], words, embedded[:, 1 + words.shape[1] :]], dim=1)
