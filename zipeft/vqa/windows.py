"""Questions on images on their way to a language model: a prompt, and each option as a branch that goes on from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from zipeft.api.data import Window
from zipeft.errors import UserError
from zipeft.objectives.options import LETTERS, Answer
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast

    from zipeft.api.language_backbone import VisionLanguageBackbone


Parts = tuple[str, str, str]
"""A prompt: what stands before the words that ask, these words, and what stands behind them."""


def by_words(question: VisualQuestion) -> Parts:
    """Return a short prompt, which an option's own words answer."""
    context = f"Context: {question.context}\n" if question.context else ""
    return f"{context}Question: ", question.question, "\nAnswer:"


def by_letters(question: VisualQuestion) -> Parts:
    """Return a prompt in ScienceQA's order (arXiv 2209.09513), question, context, options, which a letter answers."""
    options = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, question.options, strict=False))
    context = question.context or "N/A"
    asked = f"Question: {question.question}\nContext: {context}"
    return "", asked, f"\nOptions: {options}\nAnswer: The answer is"


def answers(question: VisualQuestion, letters: bool) -> list[str]:
    """Return what stands for each option behind the prompt."""
    if letters:
        return [f" {letter}" for letter, _ in zip(LETTERS, question.options, strict=False)]
    return [f" {option}" for option in question.options]


def windows_of(
    backbone: VisionLanguageBackbone, letters: bool, max_length: int
) -> Callable[[VisualQuestion, Answer], list[Window]]:
    """Return the function from a question and its answer to its one window.

    The window's inputs are the image's (``VisionLanguageBackbone.image_inputs``) and, each (tokens,), ``input_ids``,
    ``attention_mask``, ``branches`` and ``question``: the prompt, then the tokens of each option with an end token.
    Raises ``UserError`` that names a question of more than ``max_length`` tokens, and for a broken image.
    """
    tokenizer = backbone.tokenizer()
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer of the backbone has no end token, by which an answer ends: take another one")

    def windows(example: VisualQuestion, answer: Answer) -> list[Window]:
        ids, asking = prompt_ids(tokenizer, example, letters)
        branches = [0] * len(ids)
        for number, text in enumerate(answers(example, letters), 1):
            option = [*_ids(tokenizer, text), tokenizer.eos_token_id]
            ids, branches = ids + option, branches + [number] * len(option)
        if len(ids) > max_length:
            raise UserError(
                f"{example.name} has {len(ids)} tokens with its options, more than max_length, which is {max_length}: "
                "raise it, or take the question out"
            )
        tokens = torch.tensor(ids)
        inputs = {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "branches": torch.tensor(branches),
            "question": torch.nn.functional.pad(asking, (0, len(ids) - len(asking))),
        }
        return [Window(inputs | backbone.image_inputs(example.picture), answer.index)]

    return windows


def prompt_ids(tokenizer: PreTrainedTokenizerFast, question: VisualQuestion, letters: bool) -> tuple[list[int], Tensor]:
    """Return the tokens of a question's prompt, and which of them ask, (tokens,). The parts are tokenised apart, as the
    answer is."""
    before, asked, after = (_ids(tokenizer, part) for part in (by_letters if letters else by_words)(question))
    begin = [tokenizer.bos_token_id] if _begins(tokenizer) else []
    asking = [False] * len(begin + before) + [True] * len(asked) + [False] * len(after)
    return [*begin, *before, *asked, *after], torch.tensor(asking)


def _begins(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer puts a token before each text."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
