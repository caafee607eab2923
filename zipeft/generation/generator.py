"""A language model that answers: from questions to prompts, by a template, and from these to texts."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.errors import UserError, printable
from zipeft.generation.questions import Question
from zipeft.text import templates
from zipeft.text.thoughts import answer_of, may_begin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.language_backbone import LanguageBackbone


class Prompt(NamedTuple):
    """A question as tokens. ``shown`` is what else the backbone takes with them (without the batch dimension), such as
    an image; all prompts of a batch have the same."""

    ids: list[int]
    shown: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class TextGenerator:
    """A language model with what decides how it answers.

    Args:
        backbone: gives the tokenizer, and generates.
        model: the backbone's, perhaps with an adapter.
        template: how a question becomes a prompt, see ``zipeft.text.templates``.
        max_new_tokens: of an answer.
        sampling: options of ``generate`` of transformers; empty for the likeliest token each time.
        seed: of what is drawn.
        blind: why no image can be shown to the model, in words that follow "but".
    """

    backbone: LanguageBackbone
    model: nn.Module
    template: str
    max_new_tokens: int
    sampling: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    blind: str = "it is a model of texts alone"

    def prompt(self, question: Question) -> Prompt:
        """Return a question as the model takes it. Raises ``UserError`` as ``prompt_ids``, and for an image."""
        self.check_image(question)
        return Prompt(self.prompt_ids(question))

    def likelihoods(self, question: Question) -> Mapping[str, float]:
        """Return the likelihood of each of a question's options.

        Raises ``UserError`` for a model that is asked by a template: none has a place for options.
        """
        if question.options:
            raise UserError(f"{question.place} has options, which a template has no place for: write them into it")
        return {}

    def check_image(self, question: Question) -> None:
        """Raise ``UserError`` for a question with an image that the model cannot be shown."""
        if question.image and self.blind:
            raise UserError(
                f"{question.place} has an image, but the model is shown none ({self.blind}): take an adapter of a "
                "vision-language backbone, of a method that images enter"
            )

    def prompt_ids(self, question: Question) -> list[int]:
        """Return the tokens that ask a question, as those of training do.

        Raises ``UserError`` that names the question: where the longest answer would not fit behind them, where the
        template has no place for the input, and as ``templates.prompt_ids``.
        """
        if question.input and not templates.takes_input(self.template):
            raise UserError(f"{question.place} has an input, for which the template has no place: add {{input}} to it")
        try:
            tokenizer = self.backbone.tokenizer()
            ids = templates.prompt_ids(tokenizer, self.template, question.instruction, question.input)
        except UserError as error:
            raise UserError(f"{question.place}: {error}") from error
        return self.fitting(ids, question)

    def fitting(self, ids: list[int], question: Question) -> list[int]:
        """Return the tokens of a question's prompt. Raises ``UserError`` where the longest answer would not fit."""
        limit = self.backbone.max_length()
        if len(ids) + self.max_new_tokens > limit:
            raise UserError(
                f"{question.place} has {len(ids)} tokens as a prompt, and {self.max_new_tokens} new ones do not fit "
                f"behind them: the model takes {limit}; shorten it, or lower --max-new-tokens"
            )
        return ids

    def answer(self, prompts: Sequence[Prompt], draw: int = 0, **options: Any) -> list[list[int]]:
        """Return the tokens of the answers to prompts, which go through the model together.

        ``draw`` is the number of this batch among all: with the seed it decides what is drawn.
        """
        import torch

        torch.manual_seed(random.Random(f"{self.seed} {draw}").getrandbits(63))
        tokenizer, device = self.backbone.tokenizer(), next(self.model.parameters()).device
        batch = tokenizer.pad(
            {"input_ids": [prompt.ids for prompt in prompts]}, padding_side="left", return_tensors="pt"
        )
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        for name in prompts[0].shown:
            parts = [prompt.shown[name] for prompt in prompts]
            inputs[name] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_side="left")
        inputs = {name: value.to(device) for name, value in inputs.items()}
        return self.backbone.generate(self.model, inputs, self.max_new_tokens, **self.sampling, **options)

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, without thoughts and white space around it."""
        return answer_of(self.backbone.tokenizer(), ids)


class Printer:
    """Writes one answer to stdout while it is made, as a streamer of transformers.

    Args:
        text: returns the text of an answer's first tokens, which has no thought in it.
    """

    def __init__(self, text: Callable[[Sequence[int]], str]) -> None:
        self.text = text
        self.ids: list[int] | None = None  # until the prompt came
        self.written = ""

    def put(self, ids: Tensor) -> None:
        if self.ids is None:
            self.ids = []
            return
        self.ids += ids.flatten().tolist()
        answer = self.text(self.ids)
        is_part = answer.endswith("\ufffd") or may_begin(answer)  # of a character, perhaps of the mark of a thought
        if not is_part:
            self._write(answer)

    def end(self) -> None:
        pass

    def finish(self, ids: Sequence[int]) -> None:
        """Write what is not written yet of a whole answer, and end its line."""
        self._write(self.text(ids))
        print(flush=True)

    def _write(self, answer: str) -> None:
        if not answer.startswith(self.written):  # it was a thought, as its end tells
            print()
            self.written = ""
        more = answer[len(self.written) :]
        print(printable(more) if sys.stdout.isatty() else more, end="", flush=True)
        self.written = answer


def batches(prompts: Sequence[Sized], size: int) -> Iterator[list[int]]:
    """Yield the indices of prompts in batches of about equal length, the longest first: what is too much for the
    memory is so at once."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for at in range(0, len(order), size):
        yield order[at : at + size]
