"""The texts of classes as tokens of an open_clip tokenizer: none is cut off, and learnt words have their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from zipeft.errors import UserError


class Tokenizer(Protocol):
    """From texts, and how many tokens each gets (else the model's own number), to tokens (texts, context length)."""

    context_length: int

    def __call__(self, texts: Sequence[str], context_length: int | None = None, /) -> Tensor: ...


PLACEHOLDER = "X"
"""Holds the place of a learnt word; the learnt embedding replaces this one's."""


def tokens_of_templates(tokenizer: Tokenizer, classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return the tokens (classes, templates, context length) of each class's name in each template.

    Raises: ``UserError`` naming the class whose text is too long.
    """
    texts = [template.replace("{}", readable(name)) for name in classes for template in templates]
    return _tokens(tokenizer, texts).unflatten(0, (len(classes), len(templates)))


def tokens_behind_words(tokenizer: Tokenizer, classes: Sequence[str], length: int) -> Tensor:
    """Return the tokens (classes, 1, context length) of start, ``length`` placeholders, name and end.

    Raises: ``UserError`` naming the class for which there is no room, and for a tokenizer that puts no token first.
    """
    tokens = _tokens(tokenizer, [f"{PLACEHOLDER} " * length + readable(name) for name in classes])
    words = tokens[:, 1 : 1 + length]
    if (words != words[0, 0]).any() or (tokens[:, 0] == words[0, 0]).any():
        raise UserError("this model's tokenizer puts no start token before a text: its context cannot be learnt")
    return tokens[:, None]


def tokens_of_words(tokenizer: Tokenizer, words: str) -> Tensor:
    """Return the tokens (length,) of words alone, without those that begin and end a text."""
    with torch.device("cpu"):
        nothing, text = tokenizer(["", words])
    return text[1 : 1 + int((text[1:] == nothing[1]).int().argmax())]


def readable(name: str) -> str:
    """Return a class's name as it is read: folders and files have underscores for spaces."""
    return name.replace("_", " ")


def _tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    with torch.device("cpu"):  # also where a model without memory is made
        tokens, roomier = tokenizer(texts), tokenizer(texts, tokenizer.context_length + 1)
    cut = (roomier[:, :-1] != tokens).any(1).tolist()  # a text that is cut off gets its end token a place too early
    if any(cut):
        text = texts[cut.index(True)]
        raise UserError(
            f"the text {text!r} is longer than the {tokenizer.context_length} tokens that the model takes: "
            "shorten the class's name or the template, or learn fewer words"
        )
    return tokens
