"""Which tokens of a batch a language model predicts, and from which: found once, while the batch is on the CPU.

How many there are decides the shapes of what follows. To look for them on a GPU would make the host wait, in every
step, until the GPU has done all that it was given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipeft.api import branches
from zipeft.api.data import NO_LABEL


def with_places(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return inputs with the places of tokens that are predicted, of n in all; inputs that have them as they are.

    ``predictors`` (2, n) holds row and column of the token that predicts each: the one before it. Where options are
    predicted, it is the one before it in its branch, and there are

    - ``predicted`` (2, n): row and column of each token itself,
    - ``option`` (n,): the index of its option,
    - ``lacking`` (batch, options): 1.0 where a question has fewer options, else 0.0.
    """
    if "predictors" in inputs:
        return inputs
    if "branches" in inputs:
        return inputs | _of_options(inputs["branches"])
    return inputs | {"predictors": _where(inputs["labels"][:, 1:] != NO_LABEL)} if "labels" in inputs else inputs


def _of_options(found: Tensor) -> dict[str, Tensor]:
    before, labelled = branches.predictors(found)
    predicted = _where(labelled)
    return {
        "predictors": torch.stack([predicted[0], before]),
        "predicted": predicted,
        "option": found[labelled] - 1,
        "lacking": branches.lacking(found),
    }


def _where(mask: Tensor) -> Tensor:
    return torch.stack(mask.nonzero(as_tuple=True))
