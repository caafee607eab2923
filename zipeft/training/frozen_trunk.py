"""The output of a learner's frozen trunk, computed once for all epochs and for all runs that share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor

from zipeft.api.learner import Learner
from zipeft.training import stopwatch
from zipeft.training.batches import WHOLE, ordered_batches
from zipeft.training.dataset import EncodedSplit, fits
from zipeft.training.micro_batches import MicroBatch, MicroBatches
from zipeft.training.parallel import all_of
from zipeft.training.stopwatch import NOTHING, Spent


@dataclass(frozen=True)
class _Output:
    """One tensor a window, of a trunk of this depth, and the time that it took to compute them."""

    depth: tuple[int, bool]
    tensors: list[Tensor]
    spent: Spent


class FrozenTrunk:
    """Extends splits with the output of a learner's frozen trunk (see ``Learner``), where there is memory for it.

    Of each split the last output is kept as long as the split is: learners that are frozen up to the same block share
    it. The first batch is computed anew and compared, lest a method has changed a frozen layer after all.
    """

    def __init__(self, accelerator: Accelerator, batch_size: int, limit: int | None = None) -> None:
        """``limit`` is how many bytes the output for a split may take; None leaves it to the memory that is free."""
        self.accelerator, self.batch_size, self.limit = accelerator, batch_size, limit
        self._kept: WeakKeyDictionary[EncodedSplit, _Output] = WeakKeyDictionary()

    def forget(self) -> None:
        """Keep no output."""
        self._kept.clear()

    def extend(
        self, learner: Learner, split: EncodedSplit, micro_batches: MicroBatches = WHOLE
    ) -> tuple[EncodedSplit, Spent]:
        """Return a split with the output for its windows, and the time that computing it took, now or before.

        A learner without a frozen trunk, one in which nothing trains, examples that are augmented and a lack of memory
        leave it as it is.
        """
        if not learner.has_trunk or not learner.trainable() or split.augmented is not None:
            return split, NOTHING
        learner.eval()
        first = self._compute(learner, split, micro_batches, batches=1)
        output = self._known(learner, split, first)
        if not all_of(self.accelerator, output is not None):  # all compute, or none does
            output = None
        if output is None:
            if not all_of(self.accelerator, self._fits(_bytes_of_all(first, split))):
                return split, NOTHING
            start = stopwatch.now()
            computed = self._compute(learner, split, micro_batches)
            tensors = [computed[index] for index in range(len(split))]
            output = self._kept[split] = _Output(_depth(learner), tensors, stopwatch.now() - start)
        return replace(split, trunk_output=output.tensors, needs_inputs=not learner.only_head_trains), output.spent

    def _known(self, learner: Learner, split: EncodedSplit, first: dict[int, Tensor]) -> _Output | None:
        """Return what is kept for a split if it is this learner's."""
        output = self._kept.get(split)
        if output is None or output.depth != _depth(learner):
            return None
        return output if all(torch.equal(output.tensors[index], part) for index, part in first.items()) else None

    def _fits(self, size: int) -> bool:
        return fits(size) if self.limit is None else size <= self.limit

    def _compute(
        self, learner: Learner, split: EncodedSplit, micro_batches: MicroBatches, batches: int | None = None
    ) -> dict[int, Tensor]:
        """Return the output for each window by its index, of all or of the first few batches, without padding."""
        parts: dict[int, Tensor] = {}
        loader = ordered_batches(split, self.batch_size, micro_batches=micro_batches)
        with self.accelerator.autocast():
            for batch in islice(loader, batches):
                parts |= micro_batches.compute(split.batch, batch, partial(self._output, learner, split.lengths))
        return parts

    def _output(self, learner: Learner, lengths: Sequence[int] | None, batch: list[MicroBatch]) -> dict[int, Tensor]:
        """Return the output for each window of a batch."""
        outputs: dict[int, Tensor] = {}
        for part in batch:
            hidden = learner.run_trunk(send_to_device(part.content["inputs"], self.accelerator.device)).cpu()
            for row, index in zip(hidden, part.indices, strict=True):
                outputs[index] = row[: lengths[index]] if lengths and row.dim() > 1 else row
        return outputs


def _depth(learner: Learner) -> tuple[int, bool]:
    return learner.frozen_blocks, learner.only_head_trains


def _bytes_of_all(some: dict[int, Tensor], split: EncodedSplit) -> int:
    """Return how many bytes the output for all windows of a split takes, from that for a few of them."""
    size = sum(part.nbytes for part in some.values())
    if not split.lengths or next(iter(some.values())).dim() == 1:
        return size // len(some) * len(split)
    return size * sum(split.lengths) // sum(split.lengths[index] for index in some)
