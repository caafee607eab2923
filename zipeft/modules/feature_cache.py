"""Features of training images that vote for their classes (Tip-Adapter, arXiv 2111.03930)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipeft.modules.held_tensors import SizedByData, hold
from zipeft.modules.matching_adapter import MatchingAdapter, places


class FeatureCache(MatchingAdapter, SizedByData):
    """Tip-Adapter's cache: to the logits of an image with normalised features f is added, for each class,

        alpha * sum over its keys k of exp(-beta * (1 - f . k))

    as in equations 5 and 6 of arXiv 2111.03930, whose one-hot values add up the keys of a class.

    Args:
        names: of the classes that have keys; to the logits of others nothing is added.
        width: of the features.
        shots: the most keys of a class; there are none before ``remember``.
        trains: whether the keys train (Tip-Adapter-F); else they are held beside what does.
    """

    keys: Tensor
    filled: Tensor
    """1 for a key that is there, else 0: (classes, shots)."""

    def __init__(
        self,
        names: Sequence[str],
        width: int,
        shots: int,
        alpha: float,
        beta: float,
        trains: bool,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.names, self.alpha, self.beta = tuple(names), alpha, beta
        keys = torch.zeros(len(names), shots, width, device=device, dtype=torch.float32)
        if trains:
            self.keys = nn.Parameter(keys)
        else:
            hold(self, "keys", keys)
        hold(self, "filled", torch.zeros(len(names), shots, device=device))

    @torch.no_grad()
    def wanted(self, targets: Tensor) -> Tensor:
        """Return which of some images (batch,) of these classes, by their places among the names, find a free key."""
        earlier = (targets == targets[:, None]).tril(-1).sum(1)  # of the same class, in the same batch
        return self.filled.sum(1)[targets] + earlier < self.filled.shape[1]

    @torch.no_grad()
    def remember(self, features: Tensor, targets: Tensor) -> None:
        """Make keys of the features (batch, width) of images that are all ``wanted``."""
        used = self.filled.sum(1).long().tolist()
        for row, target in zip(functional.normalize(features.float(), dim=-1), targets.tolist(), strict=True):
            self.keys[target, used[target]] = row
            self.filled[target, used[target]] = 1.0
            used[target] += 1

    def take_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Have as many keys a class as ``filled`` (classes, shots) has of these shapes, but no more than before."""
        if len(shape := shapes.get("filled", ())) != self.filled.dim():
            return
        shots = shape[1]
        keys = self.keys.detach()[:, :shots].clone()
        self.keys = nn.Parameter(keys) if isinstance(self.keys, nn.Parameter) else keys
        self.filled = self.filled[:, :shots].clone()

    def logits(self, logits: Tensor, features: Tensor, names: Sequence[str]) -> Tensor:
        exact = torch.promote_types(features.dtype, torch.float32)
        classes, shots, _ = self.keys.shape
        cosines = features.to(exact) @ self.keys.to(exact).flatten(0, 1).T
        near = (self.beta * (cosines - 1)).exp().unflatten(-1, (classes, shots))
        added = self.alpha * (near * self.filled.to(exact)).sum(-1)
        if tuple(names) != self.names:
            added = functional.pad(added, (0, 1))[:, places(names, self.names)]  # the last column, of others, is zero
        return logits + added.to(logits.dtype)
