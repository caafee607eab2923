"""From a split's raw examples to batches: encoded once where memory allows, with their frozen prefix beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, default_collate

from zipeft.api.backbone import Backbone
from zipeft.api.data import NO_LABEL, Split, Window
from zipeft.errors import UserError
from zipeft.training.parallel import ALL, Share, ShareOfBatches

MEMORY_SHARE = 0.25
"""The part of the memory that is free at the time which one encoded split, or one prefix, may take."""

BATCHES_SORTED = 32
"""So many batches of shuffled examples are sorted by length together: little padding, and little order."""


class Encoded(Dataset):
    """A split as the backbone takes it. An item is a window: ``{"inputs": ..., "targets": ...}``, and ``"prefix"``
    where it is known. An example has one window or, where it is too long, several."""

    def __init__(self, split: Split, windows: Callable[[Any, Any], Sequence[Window]], backbone: Backbone) -> None:
        self.split, self.windows, self.backbone = split, windows, backbone
        self.prefix: Sequence[Tensor] | None = None
        self.needs_inputs = True
        self.kept: list[Window] | None = None
        self.example_of: Sequence[int] = range(len(split))
        self.lengths: list[int] | None = None
        self._keep_if_it_fits()

    def __len__(self) -> int:
        return len(self.example_of)

    def __getitem__(self, index: int) -> dict[str, Any]:
        window = self.window(index) if self.needs_inputs or self.kept is not None else None
        item = {"targets": self.split.targets[index] if window is None else window.target}
        if self.needs_inputs:
            item["inputs"] = window.inputs
        if self.prefix is not None:
            item["prefix"] = self.prefix[index]
        return item

    def window(self, index: int) -> Window:
        """Return a window. Raises ``UserError`` where examples are read one by one and this one has several."""
        if self.kept is not None:
            return self.kept[index]
        window, *more = self._windows(index)
        if more:
            raise UserError("examples with several windows do not fit in memory: take fewer, or shorter ones")
        return window

    def with_prefix(self, prefix: Sequence[Tensor], needs_inputs: bool) -> Encoded:
        """Return the same windows with their prefix, one tensor a window, and without inputs if nothing needs them."""
        copy = object.__new__(Encoded)
        copy.__dict__.update(self.__dict__, prefix=prefix, needs_inputs=needs_inputs)
        return copy

    def subset(self, indices: Sequence[int]) -> Encoded:
        """Return some of the examples, in the order of ``indices``, with their windows, and without a prefix."""
        own = self.split
        split = Split(_Picked(own.examples, indices), *([v[i] for i in indices] for v in (own.targets, own.names)))
        copy = object.__new__(Encoded)
        copy.__dict__.update(self.__dict__, split=split, example_of=range(len(indices)), prefix=None, needs_inputs=True)
        if self.kept is None:
            copy._keep_if_it_fits()  # a few examples may, where all of them do not
        else:
            of_example: dict[int, list[int]] = {}
            for window, example in enumerate(self.example_of):
                of_example.setdefault(example, []).append(window)
            taken = [(place, window) for place, index in enumerate(indices) for window in of_example[index]]
            copy.example_of = [place for place, _ in taken]
            copy.kept = [self.kept[window] for _, window in taken]
            copy.lengths = [self.lengths[window] for _, window in taken] if self.lengths else None
        return copy

    def batch(self, size: int) -> Any:
        """Return the inputs of the first ``size`` windows as a batch."""
        return self.inputs(range(min(size, len(self))))

    def inputs(self, indices: Sequence[int]) -> Any:
        """Return the inputs of some windows as a batch, whether or not anything needs them for training."""
        return self.backbone.collate([self.window(index).inputs for index in indices])

    def items(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return some windows as a loader's batch."""
        return self._collate([self[index] for index in indices])

    def order(self) -> list[int]:
        """Return the indices of all windows, by length where lengths differ: batches of equals need no padding."""
        indices = list(range(len(self)))
        return sorted(indices, key=self.lengths.__getitem__) if self.lengths else indices

    def loader(self, batch_size: int, share: Share = ALL) -> DataLoader:
        """Return the share of the windows, in the order of ``order``, in batches that with those of all make
        ``batch_size``."""
        size = -(-batch_size // share.processes)
        # A loader without a generator draws from the stream of dropout masks: what trains after it would then depend on
        # whether a prefix was computed or known.
        own = torch.Generator()
        return DataLoader(self, size, sampler=share.of(self.order()), generator=own, collate_fn=self._collate)

    def shuffled(self, batch_size: int, seed: int, share: Share = ALL) -> DataLoader:
        """Return the share of every batch; ``seed`` decides the order, another in each epoch."""
        generator = torch.Generator().manual_seed(seed)
        sampler: Sampler[int] = RandomSampler(self, generator=generator)
        if self.lengths:
            sampler = _Bucketed(sampler, self.lengths, batch_size, generator)
        batches = ShareOfBatches(sampler, batch_size, share)
        return DataLoader(self, batch_sampler=batches, generator=generator, collate_fn=self._collate)

    def by_example(self, values: Sequence[Any]) -> Iterator[tuple[Sequence[Window], list[Any]]]:
        """Yield the windows of each example and the values that belong to them; ``values`` holds one a window."""
        at = 0
        while at < len(self):
            end = at + 1
            while end < len(self) and self.example_of[end] == self.example_of[at]:
                end += 1
            yield _Windows(self, range(at, end)), list(values[at:end])
            at = end

    def _windows(self, index: int) -> Sequence[Window]:
        return self.windows(self.split.examples[index], self.split.targets[index])

    def _keep_if_it_fits(self) -> None:
        if not fits(sum(_size(window.inputs) for window in self._windows(0)) * len(self.split)):
            return
        self.kept, self.example_of = [], []
        for index in range(len(self.split)):
            windows = self._windows(index)
            self.kept += windows
            self.example_of += [index] * len(windows)
        lengths = [self.backbone.length(window.inputs) for window in self.kept]
        self.lengths = lengths if len(set(lengths)) > 1 else None

    def _collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {"targets": _collate_targets([item["targets"] for item in items])}
        if self.needs_inputs:
            batch["inputs"] = self.backbone.collate([item["inputs"] for item in items])
        if self.prefix is not None:
            batch["prefix"] = pad_sequence([item["prefix"] for item in items], batch_first=True)
        return batch


class _Picked(Sequence):
    """Some of a sequence's items, each read when it is asked for."""

    def __init__(self, items: Sequence[Any], indices: Sequence[int]) -> None:
        self.items, self.indices = items, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.items[self.indices[index]]


class _Windows(Sequence):
    """Some of the windows, each made when it is asked for if they are not kept: most objectives never look."""

    def __init__(self, data: Encoded, indices: range) -> None:
        self.data, self.indices = data, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Window:
        return self.data.window(self.indices[index])


class _Bucketed(Sampler[int]):
    """Shuffled indices in which those that share a batch are of about the same length; whole batches are shuffled.

    The smaller one that is left over comes last, as without buckets.
    """

    def __init__(self, sampler: Sampler[int], lengths: list[int], size: int, generator: torch.Generator) -> None:
        self.sampler, self.lengths, self.size, self.generator = sampler, lengths, size, generator

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        shuffled = iter(self.sampler)
        full = len(self) - len(self) % self.size
        batches = []
        while len(batches) * self.size < full:
            many = list(islice(shuffled, min(BATCHES_SORTED * self.size, full - len(batches) * self.size)))
            many.sort(key=self.lengths.__getitem__)
            batches += [many[at : at + self.size] for at in range(0, len(many), self.size)]
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield from batches[index]
        yield from shuffled


def fits(size: int) -> bool:
    """Whether so many bytes may be kept in memory."""
    return size <= MEMORY_SHARE * psutil.virtual_memory().available


def _collate_targets(targets: list[Any]) -> Any:
    if isinstance(targets[0], Tensor) and targets[0].dim() == 1:
        return pad_sequence(targets, batch_first=True, padding_value=NO_LABEL)
    return default_collate(targets)


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_size, value.values() if isinstance(value, dict) else value))
