"""What the plug-in of a language model provides, beside what every backbone does; of one that is shown images, too.

As ``zipeft.api.backbone``, it imports no torch.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.backbone import TextBackbone
from zipeft.api.data import NO_LABEL, Picture
from zipeft.api.precision import at_least_float32

if TYPE_CHECKING:
    from torch import Tensor

IMAGE_INPUTS = ("image", "has_image")
"""Inputs of a ``VisionLanguageBackbone`` that are an image's, and none of its tokens."""


@dataclass(frozen=True)
class LanguageBackbone(TextBackbone):
    """A decoder: takes tokens, as a ``TextBackbone``, and predicts from each the next.

    Beside ``input_ids`` and ``attention_mask`` an input may hold ``labels``: the tokens again where they are to be
    predicted, and ``NO_LABEL`` elsewhere.

    Or it holds ``branches``: 0 for the tokens of a question, which come first, then 1, 2, ... for those of each option.
    An option goes on from the question; it sees nothing of other options.
    """

    modality: ClassVar[str] = "instruction"

    takes_branches: ClassVar[bool] = False
    """Whether ``tokens`` heeds ``branches``; else each option goes through the model with a question of its own."""

    def leading_tokens(self, model: Any) -> int:
        """Return 0: prompts come first of all, as every token sees what stands before it."""
        return 0

    def random_batch(self, batch_size: int, *, image_size: int | None = None, length: int = 128) -> dict[str, Tensor]:
        """Return random tokens; the last quarter of each example is the response."""
        batch = super().random_batch(batch_size, length=length)
        batch["labels"] = batch["input_ids"].clone()
        batch["labels"][:, : length - max(1, length // 4)] = NO_LABEL
        return batch

    @abc.abstractmethod
    def logits(self, model: Any, hidden: Tensor) -> Tensor:
        """Return the logits (..., vocabulary) of next tokens from ``tokens`` (..., width)."""

    @abc.abstractmethod
    def generate(self, model: Any, inputs: dict[str, Tensor], max_new_tokens: int, **options: Any) -> list[list[int]]:
        """Return how each of a batch of prompts, padded on the left, goes on: greedily, up to an end token, which is
        left out, or ``max_new_tokens``. ``options`` are those of ``generate`` of transformers."""

    def features(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the hidden state (batch, width) of the last token that is no padding."""
        import torch

        mask = inputs["attention_mask"]
        last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
        return self.tokens(model, inputs)[torch.arange(len(last), device=last.device), last]

    def log_probs(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the log-probability (batch, tokens) of every token that is labelled, and 1 where none is.

        Logits are computed of labelled tokens alone: of a vocabulary of 50,000, those of others would cost more than
        some layers do.
        """
        from torch.nn import functional

        from zipeft.api.predicted import with_places

        rows, columns = with_places(inputs)["predictors"]
        labels = inputs["labels"]
        hidden = self.tokens(model, inputs)[rows, columns]
        logits = at_least_float32(self.logits(model, hidden))
        found = -functional.cross_entropy(logits, labels[rows, columns + 1], reduction="none")
        return found.new_ones(labels.shape).index_put((rows, columns), found)

    def collate(self, inputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example, with the places of what is predicted."""
        from zipeft.api.predicted import with_places

        batch = super().collate([{k: v for k, v in each.items() if k != "labels"} for each in inputs])
        if "labels" in inputs[0]:
            from torch.nn.utils.rnn import pad_sequence

            labels = [each["labels"] for each in inputs]
            batch["labels"] = pad_sequence(labels, batch_first=True, padding_value=NO_LABEL)
        return with_places(batch)

    def prompt_ids(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what stands before the first label, or option, in each of a batch of inputs, padded on the left."""
        from torch.nn.utils.rnn import pad_sequence

        answers = inputs["branches"] > 0 if "branches" in inputs else inputs["labels"] != NO_LABEL
        starts = answers.int().argmax(1).tolist()
        padding = {"input_ids": self.tokenizer().pad_token_id}
        return {
            name: pad_sequence(
                [row[:start] for row, start in zip(inputs[name], starts, strict=True)],
                batch_first=True,
                padding_value=padding.get(name, 0),
                padding_side="left",
            )
            for name in ("input_ids", "attention_mask", "question")
            if name in inputs
        }

    def option_log_probs(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        """Return the log-probability (batch, options) of all tokens of each option; 1 where a question has fewer."""
        from zipeft.api import branches, predicted

        if not self.takes_branches:
            rows, places = branches.apart(inputs)
            log_probs = self.log_probs(model, rows)
            return branches.in_places((log_probs * (log_probs <= 0)).sum(1), places, inputs["branches"])
        inputs = predicted.with_places(inputs)
        rows, columns = inputs["predictors"]
        hidden = self.tokens(model, inputs)[rows, columns]
        return branches.summed(at_least_float32(self.logits(model, hidden)), inputs)


@dataclass(frozen=True)
class VisionLanguageBackbone(LanguageBackbone):
    """A decoder that is shown an image with a text: its global features, by a frozen encoder, made once an image.

    How an image enters is the method's (``Method.image_entry``). Beside what a ``LanguageBackbone`` takes an input
    holds ``image`` (features,) and ``has_image`` (1,), False where there is none, and perhaps ``question`` (tokens,),
    True for the tokens that ask.
    """

    modality: ClassVar[str] = "image-instruction"

    @abc.abstractmethod
    def image_inputs(self, picture: Picture | None) -> dict[str, Tensor]:
        """Return ``image`` and ``has_image`` of a picture, or of none. Raises ``UserError`` for a broken one."""

    @abc.abstractmethod
    def admit_images(self, model: Any, entry: str, hides_question: bool = False) -> None:
        """Let images enter a model, in place, as ``Method.image_entry`` says. What is learnt for it trains.

        Raises ``UserError`` for an entry that the model has no place for.
        """

    def collate(self, inputs: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        from torch.utils.data import default_collate

        images = [{name: each[name] for name in IMAGE_INPUTS} for each in inputs]
        texts = [{name: value for name, value in each.items() if name not in IMAGE_INPUTS} for each in inputs]
        return super().collate(texts) | default_collate(images)

    def prompt_ids(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return super().prompt_ids(inputs) | {name: inputs[name] for name in IMAGE_INPUTS}
