"""Batches in parts that fit in memory: each goes through the learner by itself, and their gradients add up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

T = TypeVar("T")

Collate = Callable[[list[int]], dict[str, Any]]
"""Returns windows by their indices, collated: see ``EncodedSplit.batch``."""

log = logging.getLogger(__name__)


class MicroBatch(NamedTuple):
    """A part of a batch: the indices of its windows, and what ``EncodedSplit.batch`` returns of them. One without an
    index counts for nothing; it holds a window to compute with."""

    indices: list[int]
    content: dict[str, Any]


class MicroBatches:
    """How many windows of a batch go through a learner at once.

    ``size`` is None for the whole batch. With ``automatic`` it is halved whenever memory runs out, and stays so.
    """

    def __init__(self, size: int | None = None, automatic: bool = False) -> None:
        self.size, self.automatic = size, automatic

    def of(self, collate: Collate, indices: Sequence[int], largest: int = 0) -> list[MicroBatch]:
        """Return the windows of a batch in parts, each collated by itself: it is padded to its own longest one.

        There are as many as ``largest`` windows would make: processes compute each together. Those that are lacking
        have the first window, but no index.
        """
        size = self.size or max(len(indices), largest)
        parts = [list(indices[at : at + size]) for at in range(0, max(len(indices), largest), size)]
        return [MicroBatch(part, collate(part or list(indices[:1]))) for part in parts]

    def compute(self, collate: Collate, batch: list[MicroBatch], action: Callable[[list[MicroBatch]], T]) -> T:
        """Return what ``action`` makes of a batch.

        Where memory runs out in it, it is called again, on smaller parts and with the random numbers of the first time;
        what else it changed, it has to put right itself. Raises the error if nothing can be halved any more.
        """
        if not self.automatic:
            return action(batch)
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        while True:
            batch = self._in_size(collate, batch)
            states = torch.get_rng_state(), *map(torch.cuda.get_rng_state, devices)
            try:
                return action(batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._halve(batch):
                    raise
            # Behind the handler: its error holds the frames that hold the tensors.
            torch.set_rng_state(states[0])
            for device, state in zip(devices, states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            clear_device_cache(garbage_collection=True)

    def _in_size(self, collate: Collate, batch: list[MicroBatch]) -> list[MicroBatch]:
        """Return a batch in parts of the present size: a data loader may have read ahead in larger ones."""
        if self.size is None or max(len(part.indices) for part in batch) <= self.size:
            return batch
        return self.of(collate, [index for part in batch for index in part.indices])

    def _halve(self, batch: list[MicroBatch]) -> bool:
        """Halve the size from that of a batch's largest part; return False where that is one window."""
        largest = max(len(part.indices) for part in batch)
        if largest > 1:
            self.size = -(-largest // 2)
            log.warning("out of memory: from here on %d windows go through the model at once", self.size)
        return largest > 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # Windows' words for it are not among those that accelerate knows.
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or "DefaultCPUAllocator: not enough memory" in str(error)
    )
