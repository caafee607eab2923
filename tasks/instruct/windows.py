"""Instructions on their way to a language model: the tokens of a prompt, and of the response that is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from zipeft.api.data import NO_LABEL, Window
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.tasks.instruct.data import Instruction, Record, Splits
from zipeft.text import templates

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Windows = Callable[[Instruction, Sequence[str]], list[Window]]


def windows_of(tokenizer: PreTrainedTokenizerFast, template: str, max_length: int, refuse_overlong: bool) -> Windows:
    """Return the function from an instruction and its references to its one window.

    The window's inputs are ``input_ids``, ``attention_mask`` and ``labels``, each (tokens,): the prompt, then the first
    reference and one end token, which alone are labelled (``zipeft.text.templates.tokens``).

    What is longer than ``max_length`` tokens loses its end, as in Stanford Alpaca, or is refused. Raises ``UserError``
    that names the record, also where the prompt leaves no room for a response.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer of the backbone has no end token, by which a response ends: take another one")

    def windows(example: Instruction, references: Sequence[str]) -> list[Window]:
        prompt, response = _tokens(tokenizer, template, example, references[0])
        room = max_length - len(prompt)
        if room < 1:
            raise UserError(
                f"{example.name} has a prompt of {len(prompt)} tokens, which leaves no room for a response: "
                f"max_length is {max_length}, raise it, or take the record out"
            )
        if refuse_overlong and len(response) > room:
            raise UserError(
                f"{example.name} has {len(prompt) + len(response)} tokens, more than max_length, which is "
                f"{max_length}: raise it, or set instruct.overlong=cut"
            )
        return [_window(prompt, response[:room])]

    return windows


def with_room(
    splits: Splits, tokenizer: PreTrainedTokenizerFast, template: str, max_length: int
) -> tuple[Splits, list[str]]:
    """Return the records whose prompts leave room for a response in ``max_length`` tokens, and a note of the others.

    Raises ``UserError`` if none of a split has room.
    """

    def has_room(record: Record) -> bool:
        with _named(record.example):
            prompt = templates.prompt_ids(tokenizer, template, *_asked(record.example))
        return len(prompt) < max_length

    kept = {split: [record for record in records if has_room(record)] for split, records in splits.items()}
    for split, records in splits.items():
        if records and not kept[split]:
            raise UserError(
                f"no {split} record has a prompt of less than {max_length} tokens: raise max_length, or shorten the "
                "template"
            )
    lost = sum(len(records) - len(kept[split]) for split, records in splits.items())
    words = f"left out: {counted(lost, 'record')} whose prompt has {max_length} tokens or more"
    return kept, [words] if lost else []


def _window(prompt: list[int], response: list[int]) -> Window:
    ids = torch.tensor(prompt + response)
    labels = torch.tensor([NO_LABEL] * len(prompt) + response)
    return Window({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}, 0)


def _tokens(
    tokenizer: PreTrainedTokenizerFast, template: str, example: Instruction, response: str
) -> tuple[list[int], list[int]]:
    """Return the tokens of the prompt and of the response with its end token."""
    with _named(example):
        return templates.tokens(tokenizer, template, *_asked(example), response)


def _asked(example: Instruction) -> tuple[str, str, templates.History]:
    return example.instruction, example.input, example.history


@contextmanager
def _named(example: Instruction) -> Iterator[None]:
    """Put the name of the record before what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{example.name}: {error}") from error
