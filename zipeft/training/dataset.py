"""From raw examples to batches: encoded once where memory allows, with a frozen trunk's output beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, overload

import psutil
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Subset, default_collate
from tqdm import tqdm

from zipeft.api.backbone import Backbone
from zipeft.api.data import NO_LABEL, Split, Window
from zipeft.errors import UserError
from zipeft.training.drawing import drawing
from zipeft.training.readers import READERS, Readers, processes_here

MEMORY_SHARE = 0.25
"""The part of the memory that is free at the time which one encoded split, or one trunk's output, may take."""

WindowsOf = Callable[[Any, Any], Sequence[Window]]
"""Returns the windows on an example, which it gets with its target; see ``Task.windows``."""


@dataclass(frozen=True, eq=False)
class EncodedSplit(Dataset[dict[str, Any]]):
    """A split as the backbone takes it, made by ``encode``.

    An example has one window or, where it is too long, several. An item is a window: ``{"inputs": ..., "targets":
    ...}``, and ``"trunk_output"`` where that is known. ``kept`` holds the windows, or None where they do not fit in
    memory; ``example_of`` says which example a window is of; ``lengths`` are those of the windows, or None where all
    are alike.
    """

    split: Split
    windows_of: WindowsOf
    backbone: Backbone
    kept: Sequence[Window] | None
    example_of: Sequence[int]
    lengths: Sequence[int] | None
    trunk_output: Sequence[Tensor] | None = None
    """What leaves the learner's frozen trunk, one tensor a window."""
    needs_inputs: bool = True
    readers: Readers = READERS
    """Who reads what is not in memory."""
    augmented: int | None = None
    """The seed of what ``windows_of`` draws for an example, with the epoch and the name of the example; None where it
    draws nothing. What is drawn is never kept."""
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.example_of)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.needs_inputs:
            window = self.window(index)
            item = {"targets": window.target, "inputs": window.inputs}
        else:
            item = {"targets": self.split.targets[index] if self.kept is None else self.kept[index].target}
        if self.trunk_output is not None:
            item["trunk_output"] = self.trunk_output[index]
        return item

    def window(self, index: int) -> Window:
        """Return a window. Raises ``UserError`` where examples are read one by one and this one has several."""
        if self.kept is not None:
            return self.kept[index]
        random = drawing(self.augmented, self.epoch, self.split.names[index]) if self.augmented is not None else None
        with random or nullcontext():
            window, *more = self.windows_of(self.split.examples[index], self.split.targets[index])
        if more:
            raise UserError("examples with several windows do not fit in memory: take fewer, or shorter ones")
        return window

    def subset(self, indices: Sequence[int]) -> EncodedSplit:
        """Return some of the examples, in the order of ``indices``, with their windows, before any frozen trunk."""
        own = self.split
        examples: Any = Subset(own.examples, indices)  # type: ignore[arg-type]  # torch takes any sequence
        split = Split(examples, *([v[i] for i in indices] for v in (own.targets, own.names)))
        if self.augmented is not None:
            return replace(self, split=split, example_of=range(len(split)))
        if self.kept is None:  # a few may fit in memory, where all of them do not
            return encode(split, self.windows_of, self.backbone, self.readers)
        of_example: dict[int, list[int]] = {}
        for window, example in enumerate(self.example_of):
            of_example.setdefault(example, []).append(window)
        taken = [(place, window) for place, index in enumerate(indices) for window in of_example[index]]
        return replace(
            self,
            split=split,
            kept=[self.kept[window] for _, window in taken],
            example_of=[place for place, _ in taken],
            lengths=[self.lengths[window] for _, window in taken] if self.lengths else None,
            trunk_output=None,
            needs_inputs=True,
        )

    def in_epoch(self, epoch: int) -> EncodedSplit:
        """Return the split as an epoch (numbered from 0) reads it: another one only where it is augmented."""
        return self if self.augmented is None else replace(self, epoch=epoch)

    @property
    def is_in_memory(self) -> bool:
        """Whether items are there without reading an example."""
        return self.kept is not None or not self.needs_inputs

    def inputs(self, indices: Sequence[int]) -> Any:
        """Return the inputs alone of some windows, collated; they are there even if ``needs_inputs`` is False."""
        return self.backbone.collate([self.window(index).inputs for index in indices])

    def sample_inputs(self, size: int) -> Any:
        """Return the ``inputs`` of the first ``size`` windows."""
        return self.inputs(range(min(size, len(self))))

    def batch(self, indices: Sequence[int]) -> dict[str, Any]:
        """Return some windows as a data loader does: collated inputs, targets and trunk outputs, by name."""
        return self.collate([self[index] for index in indices])

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Return items as a batch."""
        batch = {"targets": _collate_targets([item["targets"] for item in items])}
        if self.needs_inputs:
            batch["inputs"] = self.backbone.collate([item["inputs"] for item in items])
        if self.trunk_output is not None:
            batch["trunk_output"] = pad_sequence([item["trunk_output"] for item in items], batch_first=True)
        return batch

    def order(self) -> list[int]:
        """Return the indices of all windows, by length where lengths differ: batches of equals need no padding."""
        indices = list(range(len(self)))
        return sorted(indices, key=self.lengths.__getitem__) if self.lengths else indices

    def by_example(self, values: Sequence[Any]) -> Iterator[tuple[Sequence[Window], list[Any]]]:
        """Yield the windows of each example and the values that belong to them; ``values`` holds one a window."""
        at = 0
        while at < len(self):
            end = at + 1
            while end < len(self) and self.example_of[end] == self.example_of[at]:
                end += 1
            yield _Windows(self, range(at, end)), list(values[at:end])
            at = end


def encode(split: Split, windows_of: WindowsOf, backbone: Backbone, readers: Readers = READERS) -> EncodedSplit:
    """Return a split encoded: at once where its inputs fit in memory, else each window when it is read."""
    first = windows_of(split.examples[0], split.targets[0])
    if not fits(sum(_size(window.inputs) for window in first) * len(split)):
        return read_one_by_one(split, windows_of, backbone, readers)
    kept: list[Window] = []
    example_of: list[int] = []
    for index in tqdm(range(len(split)), desc="encoding", unit="example", leave=False, delay=2, disable=None):
        windows = windows_of(split.examples[index], split.targets[index])
        kept += windows
        example_of += [index] * len(windows)
    lengths = [backbone.length(window.inputs) for window in kept]
    lengths_or_none = lengths if len(set(lengths)) > 1 else None
    return EncodedSplit(split, windows_of, backbone, kept, example_of, lengths_or_none, readers=readers)


def augment(
    split: Split, windows_of: WindowsOf, backbone: Backbone, seed: int, readers: Readers = READERS
) -> EncodedSplit:
    """Return a split of which ``windows_of`` makes another window of each example in every epoch.

    It draws from PyTorch's random numbers, which depend on ``seed``, the epoch and the example's name alone.
    """
    return replace(read_one_by_one(split, windows_of, backbone, readers), augmented=seed)


def read_one_by_one(split: Split, windows_of: WindowsOf, backbone: Backbone, readers: Readers) -> EncodedSplit:
    """Return a split of which each window is made when it is read, and none is kept."""
    return EncodedSplit(split, windows_of, backbone, None, range(len(split)), None, readers=readers)


class _Windows(Sequence[Window]):
    """Some of the windows, each made when it is asked for if they are not kept: most objectives never look."""

    def __init__(self, data: EncodedSplit, indices: range) -> None:
        self.data, self.indices = data, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> _Windows: ...
    def __getitem__(self, index: int | slice) -> Window | _Windows:
        if isinstance(index, slice):
            return _Windows(self.data, self.indices[index])
        return self.data.window(self.indices[index])


def fits(size: int) -> bool:
    """Whether so many bytes may be kept in memory, by each of the processes that train together on this machine."""
    return size * processes_here() <= MEMORY_SHARE * psutil.virtual_memory().available


def _collate_targets(targets: list[Any]) -> Any:
    if isinstance(targets[0], Tensor) and targets[0].dim() == 1:
        return pad_sequence(targets, batch_first=True, padding_value=NO_LABEL)
    return default_collate(targets)


def _size(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_size, value.values() if isinstance(value, dict) else value))
