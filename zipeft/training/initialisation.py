"""What a method makes of training data before the first step, where it asks for some."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, send_to_device
from torch import Tensor

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.objective import Objective
from zipeft.api.training_sample import Batch, TrainingSample
from zipeft.errors import UserError
from zipeft.modules.held_tensors import settled_shapes
from zipeft.training.dataset import EncodedSplit
from zipeft.training.micro_batches import MicroBatches


def initialise(
    learner: Learner,
    method: Method,
    objective: Objective,
    train: EncodedSplit,
    seed: int,
    accelerator: Accelerator,
    batch_size: int,
    micro_batches: MicroBatches | None = None,
) -> None:
    """Let a method see the training examples that it asks for, and change the values of what trains, in place.

    Every process calls this, on the same learner, before its trunk is looked for and before it is sharded; all get what
    the main one made. A method that asks for none is not called.

    Args:
        train: the run's training examples, not augmented, of which ``seed`` draws some.
        batch_size: how many windows a batch has at most; ``micro_batches`` may have fewer.

    Raises: ``UserError`` if the method has changed what trains, or its shape.
    """
    if not (size := method.sample_size()):
        return
    sample = drawn(train, size, seed)
    largest = batch_size
    if micro_batches is not None:
        largest = 1 if micro_batches.automatic else min(micro_batches.size or batch_size, batch_size)
    before = settled_shapes(learner, learner.learnt())
    learner.eval()
    try:
        method.initialise(
            learner.backbone,
            learner.model,
            TrainingSample(learner, objective, lambda: _batches(learner, sample, largest), accelerator.autocast),
        )
    finally:
        learner.zero_grad()
    if settled_shapes(learner, learner.learnt()) != before:
        raise UserError(f"{type(method).__name__}.initialise changed what trains: it may change values alone")
    if accelerator.num_processes > 1:
        _agree(learner, accelerator)


def drawn(train: EncodedSplit, size: int, seed: int) -> EncodedSplit:
    """Return some of the examples of a split, all if it has no more; ``seed`` decides which and their order."""
    generator = torch.Generator().manual_seed(seed)
    return train.subset(torch.randperm(len(train.split), generator=generator)[:size].tolist())


def _batches(learner: Learner, sample: EncodedSplit, largest: int) -> Iterator[Batch]:
    """Yield all windows, those of one length together."""
    device = next(learner.parameters()).device
    lengths = sample.lengths or [0] * len(sample)
    for _, alike in groupby(sample.order(), key=lengths.__getitem__):
        indices = list(alike)
        for at in range(0, len(indices), largest):
            batch = send_to_device(sample.batch(indices[at : at + largest]), device)
            yield Batch(batch["inputs"], batch["targets"])


@torch.no_grad()
def _agree(learner: Learner, accelerator: Accelerator) -> None:
    """Give every process the main one's values: sums may be rounded otherwise on another device."""
    for tensor in learner.learnt().values():
        there: Tensor = tensor.detach().to(accelerator.device, copy=True)
        tensor.copy_(broadcast(there))
