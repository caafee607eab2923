"""From a split's raw examples to batches: encoded once where memory allows, with their frozen prefix beside them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

from zipeft.parallel import ALL, Share, ShareOfBatches
from zipeft.task import Split

MEMORY_SHARE = 0.25
"""The part of the memory that is free at the time which one encoded split, or one prefix, may take."""


class Encoded(Dataset):
    """A split as the backbone takes it: ``{"inputs": ..., "targets": ...}`` an item, and ``"prefix"`` where known."""

    def __init__(self, split: Split, encode: Callable[[Any], Any]) -> None:
        self.split, self.encode = split, encode
        self.prefix: Tensor | None = None
        self.needs_inputs = True
        self._kept = self._encode_all() if fits(_size(encode(split.examples[0])) * len(split)) else None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"targets": self.split.targets[index]}
        if self.needs_inputs:
            item["inputs"] = self._inputs(index)
        if self.prefix is not None:
            item["prefix"] = self.prefix[index]
        return item

    def with_prefix(self, prefix: Tensor, needs_inputs: bool) -> Encoded:
        """Return the same examples with their prefix (examples, ...), and without inputs if nothing needs them."""
        copy = object.__new__(Encoded)
        copy.__dict__.update(self.__dict__, prefix=prefix, needs_inputs=needs_inputs)
        return copy

    def batch(self, size: int) -> Any:
        """Return the inputs of the first ``size`` examples as a batch."""
        return default_collate([self._inputs(index) for index in range(min(size, len(self)))])

    def loader(self, batch_size: int, share: Share = ALL) -> DataLoader:
        """Return the share of the examples, in their order, in batches that with those of all make ``batch_size``."""
        return DataLoader(self, math.ceil(batch_size / share.processes), sampler=share.of(range(len(self))))

    def shuffled(self, batch_size: int, seed: int, share: Share = ALL) -> DataLoader:
        """Return the share of every batch; ``seed`` decides the order, another in each epoch."""
        generator = torch.Generator().manual_seed(seed)
        batches = ShareOfBatches(RandomSampler(self, generator=generator), batch_size, share)
        return DataLoader(self, batch_sampler=batches, generator=generator)

    def _inputs(self, index: int) -> Any:
        return self.encode(self.split.examples[index]) if self._kept is None else self._kept[index]

    def _encode_all(self) -> list[Any]:
        return [self.encode(example) for example in self.split.examples]


def fits(size: int) -> bool:
    """Whether so many bytes may be kept in memory."""
    return size <= MEMORY_SHARE * psutil.virtual_memory().available


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_size, value.values() if isinstance(value, dict) else value))
