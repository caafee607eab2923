"""Options of a question as branches of one sequence: what each token sees, and what predicts it.

``branches`` (batch, tokens) is 0 for the tokens of the question, which come first, and for padding, which comes last;
1, 2, ... for the tokens of each option, in turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipeft.api.data import NO_LABEL, PLACES

OF_TOKENS = ("input_ids", "attention_mask", "branches", "question")
"""Inputs (batch, tokens), which change their order with the tokens."""


def visible(branches: Tensor, mask: Tensor) -> Tensor:
    """Return which tokens each one sees, (batch, tokens, tokens): itself, and of those before it that are not masked
    the question's and its own branch's."""
    at = torch.arange(branches.shape[1], device=branches.device)
    own = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    return ((at <= at[:, None]) & own & (mask[:, None, :] > 0)) | torch.eye(
        len(at), dtype=torch.bool, device=branches.device
    )


def predictors(branches: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the tokens that predict those of the options, as they come, and where these are (batch,
    tokens): the one before, or for the first token of an option the last of the question."""
    labelled = branches > 0
    at = torch.arange(branches.shape[1], device=branches.device).expand_as(branches)
    previous = torch.nn.functional.pad(branches[:, :-1], (1, 0))
    last_asked = labelled.int().argmax(1, keepdim=True) - 1
    return torch.where(previous == branches, at - 1, last_asked)[labelled], labelled


def summed(logits: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Return the log-probability (batch, options) of each option from the logits (predicted tokens, vocabulary) of its
    tokens; 1 where a question has fewer options. ``inputs`` have their places (``predicted.with_places``)."""
    rows, columns = inputs["predicted"]
    found = -torch.nn.functional.cross_entropy(logits, inputs["input_ids"][rows, columns], reduction="none")
    lacking = inputs["lacking"]
    return found.new_zeros(lacking.shape).index_put((rows, inputs["option"]), found, accumulate=True) + lacking


def apart(inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return every option behind its question, as rows of a batch with ``labels``, and the place (row, option) of each.

    What inputs hold beside tokens is repeated for each option of an example.
    """
    inputs = {name: value for name, value in inputs.items() if name not in PLACES}
    branches = inputs["branches"]
    most = branches.max(1).values.tolist()
    places = [(row, option) for row, count in enumerate(most) for option in range(count)]
    where = torch.tensor(places, device=branches.device)
    rows, own = where[:, 0], where[:, 1:] + 1
    taken = (branches[rows] == 0) | (branches[rows] == own)
    order = (~taken).int().argsort(dim=1, stable=True)  # the question, the option, padding, then the other options
    found = {name: value[rows].gather(1, order) if name in OF_TOKENS else value[rows] for name, value in inputs.items()}
    is_own = found.pop("branches") == own
    kept = torch.arange(branches.shape[1], device=branches.device) < taken.sum(1, keepdim=True)
    found["attention_mask"] = found["attention_mask"] * kept
    found["labels"] = found["input_ids"].masked_fill(~is_own, NO_LABEL)
    return found, where


def in_places(values: Tensor, places: Tensor, branches: Tensor) -> Tensor:
    """Return the values of ``apart``'s rows as a table (batch, options); 1 where a question has fewer options."""
    table = values.new_zeros(len(branches), int(branches.max())).index_put((places[:, 0], places[:, 1]), values)
    return table + lacking(branches)


def lacking(branches: Tensor) -> Tensor:
    """Return 1.0 where a question has fewer options than the most, else 0.0, (batch, options)."""
    options = torch.arange(int(branches.max()), device=branches.device)
    return (options >= branches.max(1).values[:, None]).float()
