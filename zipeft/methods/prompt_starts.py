"""Where gated prompts start: at random, or at what their layers take of training data."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from zipeft.errors import UserError

PromptInit = Literal["normal", "sampled", "kmeans", "scaled"]

VECTORS = 2048
"""At least so many vectors of each layer's input are kept, of all positions of all examples."""


def vectors_wanted(length: int) -> int:
    """Return how many vectors a prompt of a length starts from, where there are so many."""
    return max(VECTORS, 4 * length)


def start(kind: PromptInit, vectors: Tensor, length: int, std: float) -> Tensor:
    """Return the first values (length, width) of a prompt.

    Args:
        kind: "sampled" for some of the vectors, "kmeans" for the centres of as many clusters of them, "scaled" for
            N(0, 1) times ``std`` times the standard deviation of all their numbers.
        vectors: (number, width), what the prompt's layer takes of training data.

    Raises: ``UserError`` for fewer vectors than the prompt has tokens.
    """
    if kind == "scaled":
        return torch.randn(length, vectors.shape[1]) * vectors.std() * std
    if len(vectors) < length:
        raise UserError(f"prompt_init={kind}: a layer takes {len(vectors)} vectors, for {length}: raise init_examples")
    if kind == "sampled":
        return vectors[torch.randperm(len(vectors))[:length]]
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31 - 1, ()))
    centres = KMeans(length, n_init=1, random_state=seed).fit(vectors.numpy()).cluster_centers_
    return torch.from_numpy(centres).to(vectors)
