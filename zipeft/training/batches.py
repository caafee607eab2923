"""Data loaders of encoded splits: which windows make a batch, in which order, and in which parts they are collated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from zipeft.training.dataset import EncodedSplit
from zipeft.training.micro_batches import MicroBatch, MicroBatches
from zipeft.training.parallel import ALL, EpochBatch, Shard, ShardedBatches

WHOLE = MicroBatches()
"""Each batch in one part."""

BATCHES_SORTED = 32
"""So many batches of shuffled examples are sorted by length together: little padding, and little order."""


def ordered_batches(
    data: EncodedSplit, batch_size: int, shard: Shard = ALL, micro_batches: MicroBatches = WHOLE
) -> DataLoader[list[MicroBatch]]:
    """Return the shard of the windows, in the order of ``data.order``, in batches that with those of all make
    ``batch_size``. A process that has a window less than others has one of theirs at its end: all take part in every
    batch."""
    size, order = shard.largest(batch_size), data.order()
    own = list(shard.of(order))
    own += order[:1] * (shard.largest(len(order)) - len(own))
    batches = [EpochBatch(list(own[at : at + size])) for at in range(0, len(own), size)]
    return _loader(data, batches, micro_batches, epochs=False)


def shuffled_batches(
    data: EncodedSplit, batch_size: int, seed: int, shard: Shard = ALL, micro_batches: MicroBatches = WHOLE
) -> DataLoader[list[MicroBatch]]:
    """Return the shard of every batch; ``seed`` decides the order, another in each epoch."""
    generator = torch.Generator().manual_seed(seed)
    sampler: Sampler[int] = _Shuffled(data, generator=generator)
    if data.lengths:
        sampler = _Bucketed(sampler, data.lengths, batch_size, generator)
    return _loader(data, ShardedBatches(sampler, batch_size, shard, generator), micro_batches, epochs=True)


def _loader(
    data: EncodedSplit,
    batches: Iterable[EpochBatch],
    micro_batches: MicroBatches,
    epochs: bool,
) -> DataLoader[list[MicroBatch]]:
    """Return a loader of batches, whose ``sampler`` yields their indices."""
    return data.readers.loader(_MicroBatched(data, micro_batches), batches, data.is_in_memory, epochs)


class _MicroBatched(Dataset[list[MicroBatch]]):
    """A split by batches: an item is what some indices stand for in an epoch, in micro-batches."""

    def __init__(self, data: EncodedSplit, micro_batches: MicroBatches) -> None:
        self.data, self.micro_batches = data, micro_batches

    def __getitem__(self, batch: EpochBatch) -> list[MicroBatch]:
        return self.micro_batches.of(self.data.in_epoch(batch.epoch).batch, batch.indices, batch.largest)


class _Shuffled(RandomSampler):
    """Indices in another order in each epoch.

    Before each, a number is drawn that nobody takes, as a data loader does of the generator that it is given: the order
    is what it was when a loader was given this one. Workers that stay do without, so that it cannot be theirs.
    """

    def __iter__(self) -> Iterator[int]:
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)
        yield from super().__iter__()


class _Bucketed(Sampler[int]):
    """Shuffled indices in which those that share a batch are of about the same length; whole batches are shuffled.

    The smaller one that is left over comes last, as without buckets.
    """

    def __init__(self, sampler: Sampler[int], lengths: Sequence[int], size: int, generator: torch.Generator) -> None:
        self.sampler, self.lengths, self.size, self.generator = sampler, lengths, size, generator

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        shuffled = iter(self.sampler)
        full = len(self) - len(self) % self.size
        batches: list[list[int]] = []
        while len(batches) * self.size < full:
            many = list(islice(shuffled, min(BATCHES_SORTED * self.size, full - len(batches) * self.size)))
            many.sort(key=self.lengths.__getitem__)
            batches += [many[at : at + self.size] for at in range(0, len(many), self.size)]
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield from batches[index]
        yield from shuffled
