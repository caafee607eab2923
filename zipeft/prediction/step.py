"""What one optimiser step takes: its memory at the peak, and its arithmetic, by taking it without weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.prediction.arithmetic import Arithmetic
from zipeft.prediction.live_memory import LiveMemory
from zipeft.prediction.weightless import weightless, without_values, without_weights
from zipeft.training.activation_checkpointing import checkpointed_activations
from zipeft.training.optimizers import new_optimizer

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepCost:
    """What a training needs on one device, in bytes, and the floating-point operations of a step.

    Args:
        weights: the frozen parameters and the buffers, by dtype.
        largest_block: the parameters of the largest block, and the gradients of those that train.
        outside: the same of what lies outside of blocks: embeddings and heads.
        activations: what is kept from the forward pass of a micro-batch for its backward pass, copies of weights that
            autocast makes among it.
        temporaries: what is alive at the peak beside all of these; below zero where activations are given free before
            the gradients are there, as in a step of one micro-batch.
        flops: of a step on a whole batch, a multiplication and an addition as two.
    """

    weights: dict[str, int]
    trainables: int
    gradients: int
    optimizer: int
    activations: int
    temporaries: int
    largest_block: int
    outside: int
    flops: int

    @property
    def held(self) -> int:
        """What is there all the time."""
        return sum(self.weights.values()) + self.trainables + self.gradients + self.optimizer

    @property
    def peak(self) -> int:
        return self.held + self.activations + self.temporaries


def step_cost(
    build: Callable[[], Learner],
    batch: Callable[[int], Any],
    method: Method,
    protocol: TrainingProtocol,
    *,
    micro_batch: int | None = None,
    checkpointing: bool = False,
    device: str = "cuda",
) -> StepCost:
    """Take steps of a training without weights, and return what they cost once training is under way.

    The learner computes the whole model: what a training keeps of frozen layers is not left out. The mean square of
    the outputs stands for the loss.

    Args:
        build: returns the learner, to be called on the meta device.
        batch: returns a batch of so many examples, on the CPU.
        micro_batch: how many examples go through the learner at once; None for the whole batch.
        checkpointing: whether blocks above the frozen trunk are computed again in the backward pass.
        device: the kind of device that is trained on, "cuda" or "cpu".
    """
    size = min(micro_batch or protocol.batch_size, protocol.batch_size)
    times = -(-protocol.batch_size // size)
    inputs = batch(size)
    with torch.device("meta"):
        learner = build()
    with weightless(device):
        without_weights(learner)
        inputs = without_values(inputs)
        learner.find_trunk(inputs)
        learner.train()
        with checkpointed_activations(learner) if checkpointing else nullcontext():
            return taken(learner, inputs, method, protocol, times)


def taken(learner: Learner, inputs: Any, method: Method, protocol: TrainingProtocol, times: int) -> StepCost:
    """Return the cost of steps that are really taken, with weights or without, on so many times the inputs each."""
    trained = list(learner.trainable().values())
    optimizer = new_optimizer(learner, method, protocol) if trained else None
    if optimizer:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # makes its state
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    states = [each for state in (optimizer.state.values() if optimizer else ()) for each in state.values()]
    frozen = [each for each in (*learner.parameters(), *learner.buffers()) if not each.requires_grad]
    held = [*frozen, *trained, *gradients, *(each for each in states if isinstance(each, Tensor))]
    del gradients, states
    kept = 0
    with LiveMemory(held) as memory:
        fixed, flops = memory.now, 0
        del held
        if optimizer:
            optimizer.zero_grad()
        for _ in range(min(2, times)):
            before = memory.now
            with Arithmetic() as counter:
                with torch.autocast("cpu", AUTOCAST.get(protocol.precision), enabled=protocol.precision in AUTOCAST):
                    outputs = learner(inputs)
                kept = max(kept, memory.now - before)
                if outputs.requires_grad:
                    outputs.float().square().mean().backward()
            del outputs
            flops = counter.flops
        if optimizer:
            torch.nn.utils.clip_grad_norm_(trained, protocol.clip)
            optimizer.step()
    sizes = _bytes(trained)
    blocks = [block for tower in learner.backbone.towers(learner.model).values() for block in tower]
    return StepCost(
        weights=_by_dtype(frozen),
        trainables=sizes,
        gradients=sizes,
        optimizer=fixed - _bytes(frozen) - 2 * sizes,
        activations=kept,
        temporaries=memory.peak - fixed - kept,
        largest_block=max(map(_with_gradients, blocks)),
        outside=_with_gradients(learner) - sum(map(_with_gradients, blocks)),
        flops=flops * times,
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in tensors}
    return sum(storages.values())


def _by_dtype(tensors: Iterable[Tensor]) -> dict[str, int]:
    dtypes: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        dtypes.setdefault(str(tensor.dtype).removeprefix("torch."), []).append(tensor)
    return {name: _bytes(each) for name, each in dtypes.items()}


def _with_gradients(part: nn.Module) -> int:
    parameters = list(part.parameters())
    return _bytes(parameters) + _bytes(each for each in parameters if each.requires_grad)
