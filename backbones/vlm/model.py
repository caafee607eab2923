"""A language model, and what shows it images once a method has let them in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zipeft.api.data import NO_LABEL, PLACES
from zipeft.api.language_backbone import IMAGE_INPUTS
from zipeft.modules.image_entry import ImageEntry

Inputs = dict[str, Tensor]


class VisionLanguageModel(nn.Module):
    """A decoder with the way in which images enter it: none at first, so that it is the decoder as it is."""

    def __init__(self, language: nn.Module) -> None:
        super().__init__()
        self.language = language
        self.image_entry: ImageEntry | None = None
        self.hides_question = False

    @property
    def image_tokens(self) -> int:
        """How many tokens of the sequence stand for an image."""
        return self.image_entry.length if self.image_entry else 0

    @contextmanager
    def shown(self, inputs: Inputs, copies: int = 1) -> Iterator[Inputs]:
        """Show the model the images of a batch while the context lasts; yield what the decoder takes beside them.

        Each image is shown to ``copies`` rows that follow each other, of which the decoder makes one text itself.
        """
        texts = {name: value for name, value in inputs.items() if name not in (*IMAGE_INPUTS, *PLACES, "question")}
        if self.hides_question and "question" in inputs:
            texts["attention_mask"] = texts["attention_mask"] * ~inputs["question"]
        if self.image_entry is None:
            yield texts
            return
        images = (inputs[name].repeat_interleave(copies, dim=0) for name in IMAGE_INPUTS)
        with self.image_entry.shown(self.language, *images):
            yield self._with_places(texts, inputs["has_image"])

    def _with_places(self, texts: Inputs, has_image: Tensor) -> Inputs:
        """Put the places of image tokens in front of texts; where there is no image no token sees them."""
        places = self.image_tokens
        if not places:
            return texts
        widened = {}
        for name, value in texts.items():
            front = value.new_full((len(value), places), NO_LABEL if name == "labels" else 0)
            if name == "attention_mask":
                front += has_image.to(value.dtype)
            widened[name] = torch.cat([front, value], dim=1)
        return widened
