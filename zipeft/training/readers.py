"""Who reads the examples that are not kept in memory: worker processes, which read ahead while others compute."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset

from zipeft.errors import UserError, one_line
from zipeft.results.environment import cores

T = TypeVar("T")

MOST_BY_DEFAULT = 8
"""So many workers are started unless more are asked for: as many keep a GPU busy with images of 224 pixels."""

DEAD = "DataLoader worker (pid"
"""How PyTorch's message begins where a worker ended without a word."""


@dataclass(frozen=True)
class Readers:
    """Reads what data loaders give, by so many ``workers``: None is one less than there are CPU cores for this process,
    and at most ``MOST_BY_DEFAULT``; with 0 it reads itself. Workers change no result.

    ``pinned`` puts batches into memory from which a CUDA device copies while it computes.
    """

    workers: int | None = None
    pinned: bool = False

    def count(self) -> int:
        """Return how many workers read."""
        if self.workers is not None:
            return self.workers
        return min(MOST_BY_DEFAULT, max(0, cores() // processes_here() - 1))

    def loader(self, batches: Dataset[T], order: Iterable[Any], kept: bool, epochs: bool) -> DataLoader[T]:
        """Return a loader of ``batches`` by the keys that ``order`` yields.

        What is ``kept`` in memory no worker reads. Where there are to be several ``epochs``, workers stay for all.
        Reading raises the ``UserError`` of a worker as if there was none.
        """
        workers = 0 if kept else self.count()
        return _Loader(
            _Answers(batches) if workers else batches,
            batch_size=None,
            sampler=order,
            # Without one it would draw from the stream of dropout masks: what trains after it would then depend on
            # whether a trunk's output was computed or known.
            generator=torch.Generator(),
            num_workers=workers,
            pin_memory=self.pinned,
            persistent_workers=epochs and workers > 0,
            # Elsewhere a fork is not safe. Workers decode and transform on the CPU; none of them trains.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            collate_fn=_as_it_is,
            worker_init_fn=_begin,
        )


READERS = Readers()
"""Who reads where nobody says otherwise."""


class _Answers(Dataset[Any], Generic[T]):
    """Gives an error that the user is meant to see as an item: PyTorch would wrap it in the worker's traceback."""

    def __init__(self, batches: Dataset[T]) -> None:
        self.batches = batches

    def __getitem__(self, key: Any) -> T | UserError:
        try:
            return self.batches[key]
        except UserError as error:
            return UserError(one_line(error, None))  # of a kind that can be pickled, whatever that one holds


def _begin(worker: int) -> None:
    """Let tokenizers of a worker start no threads, which it would warn of: the process that it comes from has some."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _as_it_is(batch: T) -> T:
    return batch


class _Loader(DataLoader[T]):
    def __iter__(self) -> Iterator[T]:  # type: ignore[override]  # torch's is an iterator of its own kind
        for batch in super().__iter__():
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def told_of_dead_workers(accelerator: Accelerator) -> Iterator[None]:
    """Make a ``UserError`` of a worker's sudden end, which PyTorch reports wherever this process is just then.

    With several processes it ends with the message, as the others wait for it.
    """
    try:
        yield
    except RuntimeError as error:
        if not one_line(error).startswith(DEAD):
            raise
        said = (
            f"a worker that reads data died ({one_line(error)}): memory may have run out; take fewer by --workers, "
            "or --workers 0"
        )
        if accelerator.num_processes > 1:
            raise SystemExit(f"zipeft: error: {said}") from error
        raise UserError(said) from error


def processes_here() -> int:
    """Return how many processes on this machine train together."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
