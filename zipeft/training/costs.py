"""Measuring what training costs: memory and arithmetic."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil
import torch
from accelerate.utils import send_to_device
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zipeft.api.learner import Learner
from zipeft.api.objective import Objective
from zipeft.training.dataset import EncodedSplit


class PeakMemory:
    """The peak memory of what runs inside this context: allocated on a CUDA device, else the process's resident set.

    After the context, ``bytes`` is the peak and ``kind`` says of what.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.kind = "cuda allocated" if device.type == "cuda" else "resident set"
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            _return_freed_memory()
            self._sampler = None if _reset_high_water_mark() else _Sampler()
        return self

    def so_far(self) -> int:
        """Return the peak until now, inside the context."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return self._sampler.peak if self._sampler else _high_water_mark()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self.bytes = self._sampler.stop() if self._sampler else _high_water_mark()


def count_flops(
    learner: Learner, objective: Objective, train: EncodedSplit, device: torch.device, batch_size: int
) -> tuple[int, int]:
    """Return the floating-point operations of one example in a training step and in a forward pass from the inputs.

    A step is the forward and backward pass as it is trained: above the frozen trunk, where ``train`` has its
    output. What it computes once for a batch, such as a prompt's keys or the texts of classes, the ``batch_size``
    examples share. Counted are matrix products, attention and convolutions, a multiplication and an addition as two.
    The learner's state, its gradients and the random numbers are afterwards what they were.

    Args:
        learner: on ``device``, before it trains (a data-parallel wrapper listens to its gradients).
        train: the training data, of which nothing but sizes matters: one of median length is counted.
    """
    median = train.order()[(len(train) - 1) // 2]
    with _evaluating(learner):
        # Few at once, since plain matrix products keep more of the attention in memory than fused kernels do; one and
        # two tell what is computed once for a batch from what is computed for each example.
        one, two = (_count(learner, objective, train, device, [median] * examples) for examples in (1, 2))
    shared = min(batch_size, len(train))
    step, forward = (round(b - a + (2 * a - b) / shared) for a, b in zip(one, two, strict=True))
    return step, forward


def _count(
    learner: Learner, objective: Objective, train: EncodedSplit, device: torch.device, indices: list[int]
) -> tuple[int, int]:
    """Return the operations of a batch in a training step and in a forward pass."""
    inputs = send_to_device(train.inputs(indices), device)
    with torch.no_grad():
        learner(inputs)  # fills what is kept from one batch to the next while it does not train
        with _counting() as forward:
            learner(inputs)
    batch = send_to_device(train.batch(indices), device)
    targets = batch.pop("targets")
    with torch.enable_grad(), _counting() as step:
        if learner.trainable():
            # Not torch.autograd.grad: the counter fails in it where a module takes a parameter, as a prompt is.
            objective.loss(learner(**batch), targets).backward()
    learner.zero_grad()
    return step.get_total_flops(), forward.get_total_flops()


@contextmanager
def _evaluating(learner: Learner) -> Iterator[None]:
    """Keep a learner from drawing dropout masks and from updating running statistics; neither of them is counted.
    Afterwards modes and gradients are what they were."""
    modes = {module: module.training for module in learner.modules()}
    gradients = {parameter: parameter.grad for parameter in learner.parameters()}
    for parameter in gradients:
        parameter.grad = None
    learner.eval()
    try:
        yield
    finally:
        learner.eval()  # drops what was cached in here
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in gradients.items():
            parameter.grad = gradient


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """Count; with attention in plain matrix products, since the counter does not know all fused kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Sampler(threading.Thread):
    """Looks at the resident set 50 times a second, where the system keeps no mark that can be reset."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.process, self.peak, self.done = psutil.Process(), 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def stop(self) -> int:
        self.done.set()
        self.join()
        return max(self.peak, self.process.memory_info().rss)


def _return_freed_memory() -> None:
    """Give what an earlier run freed back to the system, so that it does not count here (glibc keeps it otherwise)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _reset_high_water_mark() -> bool:
    """Set Linux's mark of the process's peak resident set to the present; False where that cannot be."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _high_water_mark() > 0
    except (OSError, ValueError):
        return False


def _high_water_mark() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
