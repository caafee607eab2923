"""Checkpoints of a training: what it needs to go on in another process as if nothing had ended it.

A checkpoint is one file, written whole or not at all. A SHA-256 at its end covers it, so that none is believed that was
damaged, and its head says of which run, versions and number of processes it is. Of a sharded training each process
first writes its part to a file of its own, in a folder beside that one, which then names the files by a stamp.
"""

from __future__ import annotations

import hashlib
import io
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from zipeft.errors import UserError, described
from zipeft.files import clear_leftovers, delete_leftovers, write_parts_atomically
from zipeft.results.store import SHARDS
from zipeft.training.parallel import agree, all_of

log = logging.getLogger(__name__)

AT_EPOCHS, WITHIN_EPOCHS = 10.0, 120.0
"""Seconds since the last checkpoint, or since the start, after which the end of an epoch, or a step, leaves one: a run
of a few seconds leaves none."""

SHARE = 0.05
"""Checkpoints take at most this part of the time, however large they are."""

ASKED_EVERY = 16
"""Steps between two in which several processes ask the main one whether it is time."""

DIGEST = hashlib.sha256().digest_size

State = dict[str, Any]


class Saved(NamedTuple):
    """The state of a training: what all processes ``shared``, as the main one has it, each one's ``own``, which is
    small, and each one's part of what is sharded, if anything is."""

    shared: State
    own: State
    shard: State | None = None


class Checkpoints:
    """The checkpoints of one run, in one file, which the main process writes and reads, and its shards.

    ``head`` is what a checkpoint must have been written with to be gone on from: the run's id, versions and the like.
    ``peak`` returns the peak memory so far.
    """

    def __init__(self, accelerator: Accelerator, path: Path, head: Mapping[str, Any], peak: Callable[[], int]) -> None:
        self.accelerator, self.path, self.peak = accelerator, path, peak
        self.head = {**head, "processes": accelerator.num_processes}
        self.shards = _Shards(path.with_suffix(SHARDS) / str(accelerator.process_index))
        self._stamp = ""
        self._written = time.monotonic()
        self._took = 0.0

    def read(self) -> State | None:
        """Return the last state, on every process with what is its own; None where there is none to go on from.

        A file that is damaged, or that was written under another head, is said to be so and left out of account.
        """
        state = self._read() if self.accelerator.is_main_process else None
        if self.accelerator.num_processes > 1:
            packed = agree(self.accelerator, None if state is None else _packed(state))
            state = None if packed is None else _unpacked(packed)
        if state is not None:
            state |= state.pop("own")[self.accelerator.process_index]
            self._stamp = state.pop("stamp")
            if self._stamp:
                shard = self._read_shard()
                state = state | shard if all_of(self.accelerator, bool(shard)) else None
        if state is None:
            self.shards.delete()
        self._written = time.monotonic()
        return state

    def due(self, epoch_ended: bool, step: int) -> bool:
        """Return whether it is time for a checkpoint, the same on every process."""
        if not epoch_ended and self.accelerator.num_processes > 1 and step % ASKED_EVERY:
            return False
        waits = max(AT_EPOCHS if epoch_ended else WITHIN_EPOCHS, self._took / SHARE)
        return agree(self.accelerator, time.monotonic() - self._written >= waits)

    def write(self, saved: Saved) -> None:
        """Write a state, with the random states of all processes.

        What cannot be written is said, and training goes on.
        """
        start = time.monotonic()
        own = {**saved.own, "random": random_states()}
        states = [own]
        if self.accelerator.num_processes > 1:
            states = [_unpacked(each) for each in gather_object([_packed(own)])]
        stamp = agree(self.accelerator, uuid.uuid4().hex) if saved.shard else ""
        written = not saved.shard or all_of(self.accelerator, self._put(self.shards.file(stamp), saved.shard))
        if written and self.accelerator.is_main_process:
            whole = {"head": self.head, **saved.shared, "own": states, "stamp": stamp, "peak": self.peak()}
            written = self._put(self.path, whole)
        if stamp:
            self._stamp = stamp if agree(self.accelerator, written) else self._stamp
            self.shards.delete(but=self._stamp)
        self._written = time.monotonic()
        self._took = self._written - start

    def _put(self, path: Path, content: State) -> bool:
        """Write a file; return whether that was possible."""
        try:
            write_parts_atomically(path, lambda file: _write(content, file))
        except UserError as error:
            log.warning("no checkpoint is kept: %s", error)
            return False
        return True

    def _read_shard(self) -> State:
        """Return this process's part of what the checkpoint has; empty where it cannot be read, which is said."""
        self.shards.delete(but=self._stamp)
        file = self.shards.file(self._stamp)
        try:
            return _read(file)
        except Exception as error:  # as above
            log.warning("%s is left out of account, and the run begins anew: %s", file, described(error))
            return {}

    def _read(self) -> State | None:
        clear_leftovers(self.path)  # of a process that was killed while it wrote; the claim is this one's
        if not self.path.is_file():
            return None
        try:
            state = _read(self.path)
        except Exception as error:  # whatever torch makes of a damaged file
            log.warning("%s is left out of account, and the run begins anew: %s", self.path, described(error))
            return None
        if state.get("head") != self.head:
            log.warning("%s is of another version or set-up: it is left out of account", self.path)
            return None
        return state


class _Shards:
    """The files that have one process's part of a sharded training, in a folder of its own, each under a checkpoint's
    stamp."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, stamp: str) -> Path:
        return self.folder / stamp

    def delete(self, but: str = "") -> None:
        """Delete all files but the one under a stamp, and what a kill left of one."""
        delete_leftovers(file for file in self.folder.glob("*") if file.name != but)


def random_states() -> State:
    """Return the states of Python's, NumPy's and PyTorch's generators."""
    numpy: State = dict(np.random.get_state(legacy=False))
    numpy["state"] = {**numpy["state"], "key": torch.from_numpy(numpy["state"]["key"].copy())}
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    return {"python": random.getstate(), "numpy": numpy, "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_states(states: State) -> None:
    """Put generators back in what ``random_states`` returned."""
    random.setstate(states["python"])
    numpy = states["numpy"]
    np.random.set_state({**numpy, "state": {**numpy["state"], "key": numpy["state"]["key"].numpy()}})
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"])


def _packed(state: State) -> bytes:
    """Return a state as bytes, in which form processes tell it each other: torch's own way leaves out tensors."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _unpacked(packed: bytes) -> State:
    state: State = torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    return state


class _Hashed:
    """A file that takes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, part: Any) -> int:
        self.hash.update(part)
        return self.file.write(part)

    def flush(self) -> None:
        self.file.flush()


def _write(state: State, file: BinaryIO) -> None:
    hashed = _Hashed(file)
    torch.save(state, hashed)  # type: ignore[arg-type]  # it asks for write and flush alone
    file.write(hashed.hash.digest())


def _read(path: Path) -> State:
    """Return what a checkpoint holds, on the CPU. Raises ``ValueError`` for one that is not what was written."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        left = path.stat().st_size - DIGEST
        while left > 0 and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        if file.read() != digest.digest():
            raise ValueError("it is damaged")
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state
