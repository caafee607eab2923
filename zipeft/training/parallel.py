"""Several processes that train one model: who takes which examples, and what they tell each other.

Every process sees the same order of examples. Of each batch it takes its shard; gradients are averaged over the
processes, weighted so that they are those of the whole batch. With one process the shard is all and there is nothing to
tell. Each holds the whole model, unless that is sharded as well: see ``zipeft.training.sharding``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, gather_object, set_seed
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, Sampler

from zipeft.api.learner import Learner
from zipeft.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The part that one process takes of what all do together: from number ``process`` on, every ``processes``-th."""

    process: int = 0
    processes: int = 1

    @classmethod
    def of_process(cls, accelerator: Accelerator) -> Shard:
        return cls(accelerator.process_index, accelerator.num_processes)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        return items[self.process :: self.processes]

    def weight(self, size: int) -> float:
        """Return what the mean over this shard of ``size`` items counts, so that the mean over all processes of the
        weighted means is the mean over all items; 1 if all shards are equal, 0 if this one is empty."""
        return len(self.of(range(size))) * self.processes / size

    def largest(self, size: int) -> int:
        """Return how many of ``size`` items the process has that has most of them."""
        return -(-size // self.processes)


ALL = Shard()


class EpochBatch(NamedTuple):
    """The indices of a batch, and the number of the epoch, from 0, in which they are read. ``largest`` is how many the
    process has that has most of the batch, 0 where it does not matter."""

    indices: list[int]
    epoch: int = 0
    largest: int = 0


class ShardedBatches(Sampler["EpochBatch"]):
    """Batches of indices, of which each holds a process's shard. Where the shard is empty it holds one index of the
    batch nevertheless, with weight 0: every process has to take part in every step.

    ``epoch`` is the number, from 0, of the epoch that is iterated over next; who trains sets it. ``generator`` is the
    one that ``sampler`` draws from.
    """

    def __init__(
        self, sampler: Sampler[int], batch_size: int, shard: Shard, generator: torch.Generator | None = None
    ) -> None:
        self.sampler, self.batch_size, self.shard = sampler, batch_size, shard
        self.generator = generator or torch.Generator()
        self.epoch = 0
        self.skip = 0
        """How many batches are left out at the start: those of an epoch that another process has done."""

    def __len__(self) -> int:
        return -(-len(cast(Sized, self.sampler)) // self.batch_size)

    def __iter__(self) -> Iterator[EpochBatch]:
        epoch = self.epoch
        for batch in islice(BatchSampler(self.sampler, self.batch_size, drop_last=False), self.skip, None):
            yield EpochBatch(list(self.shard.of(batch) or batch[:1]), epoch, self.shard.largest(len(batch)))

    def weights(self) -> list[float]:
        """Return the weight of each batch's mean loss; see ``Shard.weight``."""
        examples = len(cast(Sized, self.sampler))  # torch leaves open whether a sampler is; ours are
        starts = range(0, examples, self.batch_size)
        return [self.shard.weight(min(self.batch_size, examples - at)) for at in starts[self.skip :]]


def new_accelerator(cpu: bool = False, **settings: Any) -> Accelerator:
    """Return this process's accelerator, in one group with all processes that a launcher started with it."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    # Where there is no GPU, accelerate leaves each process to itself unless it is told to use the CPU.
    return Accelerator(cpu=cpu or (launched and not torch.cuda.is_available()), **settings)


class Replicas:
    """A learner in training that each process holds as a whole; ``model`` is what computes a step, and all take part.

    Parameters without a gradient stay as they are, as with one process. A step raises ``RuntimeError``, PyTorch's, if
    other parameters get a gradient than in the first.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        learner: Learner,
        optimizer: Callable[[Mapping[str, nn.Parameter]], Optimizer],
    ) -> None:
        """``optimizer`` returns the optimiser of what trains, which it is given by name."""
        # A static graph finds parameters that nothing reads (a pooler, in full fine-tuning) in the first step, once.
        accelerator.ddp_handler = DistributedDataParallelKwargs(static_graph=True)
        self.accelerator = accelerator
        self.model: nn.Module
        self.optimizer: Any
        self.model, self.optimizer = accelerator.prepare(learner, optimizer(learner.trainable()))
        self._knows_graph = accelerator.num_processes == 1

    def zero_grad(self) -> None:
        """Drop all gradients."""
        self.optimizer.zero_grad()

    def adding_up(self) -> AbstractContextManager[Any]:
        """Return a context in which a process adds up gradients that it tells the others later. In the first step it
        tells them at once, since a static graph is learnt from a backward pass that does."""
        return self.accelerator.no_sync(self.model) if self._knows_graph else nullcontext()

    def clip(self, norm: float) -> None:
        """Clip the gradients to a norm, of all together."""
        self._knows_graph = True
        self.accelerator.clip_grad_norm_(self.model.parameters(), norm)


def read(accelerator: Accelerator, batches: Iterable[T]) -> Iterator[T]:
    """Yield this process's batches. What it cannot read, it alone knows of, while the others wait for it in a step:
    with several processes it ends with a message, upon which their launcher ends all."""
    try:
        yield from batches
    except UserError as error:
        if accelerator.num_processes == 1:
            raise
        raise SystemExit(f"zipeft: error: {error}") from error


def draw_apart(accelerator: Accelerator, seed: int) -> None:
    """Let the processes draw different random numbers (dropout masks) from here on; the main one goes on as it was."""
    if not accelerator.is_main_process:
        set_seed(seed, device_specific=True)


def merge(accelerator: Accelerator, part: list[Any]) -> list[Any]:
    """All-gather: return the full list, of which each process has its ``Shard``, on every process."""
    if accelerator.num_processes == 1:
        return part
    parts = gather_object([part])
    merged: list[Any] = [None] * sum(map(len, parts))
    for process, values in enumerate(parts):
        merged[process :: len(parts)] = values
    return merged


def all_of(accelerator: Accelerator, value: bool) -> bool:
    """Return, on every process, whether a value is true on each."""
    return all(merge(accelerator, [value]))


def agree(accelerator: Accelerator, value: T) -> T:
    """Return the main process's value, which can be pickled, on every process."""
    if accelerator.num_processes == 1:
        return value
    values: list[Any] = [value]
    return broadcast_object_list(values)[0]
