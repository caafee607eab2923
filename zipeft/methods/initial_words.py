"""Words that prompts start from: the hidden states with which a model's first block gets their tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.backbone import TextBackbone
from zipeft.errors import UserError


def words_of(backbone: TextBackbone, model: nn.Module, text: str, length: int) -> Tensor:
    """Return the states (length, width) of a text's tokens, without special ones: repeated or cut to ``length``.

    Raises: ``UserError`` for a text without a token, and for more tokens than the backbone takes.
    """
    ids = backbone.tokenizer()(text, add_special_tokens=False)["input_ids"][:length]
    if not ids:
        raise UserError(f"the initial words {text!r} have no token: write some, or leave them out")
    states = _entering(backbone, model, torch.tensor(ids, device="cpu"))
    return states.repeat(-(-length // len(ids)), 1)[:length]


def random_words(backbone: TextBackbone, model: nn.Module, length: int) -> Tensor:
    """Return the states (length, width) of tokens that are drawn from the vocabulary, each as likely as any.

    Raises: ``UserError`` for more tokens than the backbone takes.
    """
    return _entering(backbone, model, torch.randint(backbone.vocabulary(), (length,), device="cpu"))


class _Entered(Exception):
    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def _stop(_block: nn.Module, args: tuple[Any, ...]) -> None:
    raise _Entered(args[0])


def _entering(backbone: TextBackbone, model: nn.Module, ids: Tensor) -> Tensor:
    """Return the hidden states (tokens, width), float32, of tokens (tokens,) in front of the first block."""
    if len(ids) > backbone.max_length():
        raise UserError(f"prompts start from {len(ids)} tokens, but the backbone takes {backbone.max_length()}")
    row = ids[None].to(next(model.parameters()).device)
    hook = backbone.blocks(model)[0].register_forward_pre_hook(_stop)
    try:
        with torch.no_grad():
            backbone.features(model, {"input_ids": row, "attention_mask": torch.ones_like(row)})
    except _Entered as entered:
        return entered.hidden[0].float()
    finally:
        hook.remove()
    raise RuntimeError(f"{type(model).__name__} did not run its blocks")
