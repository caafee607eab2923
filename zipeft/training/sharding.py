"""Sharding: each process holds a part of every parameter, of its gradient and of the optimiser's state (FSDP2).

``fully_shard`` of PyTorch gathers the parameters of a block for as long as the block computes, forward and back, and
those outside of blocks (embeddings, a head) for as long as the learner does. It is called here, not by accelerate: that
wants to know when its one Accelerator is made, shards by names of classes, and builds optimisers anew.

A run is sharded from the frozen model in the host's memory, block by block: a device never holds the whole model, and
no run can write into what the next one starts from. What methods insert is sharded like the rest. Parameters without a
dimension, which cannot be, are whole on each process, and their gradients are averaged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from zipeft.api.learner import Learner
from zipeft.errors import UserError

COMPUTING = ("find_trunk", "run_trunk", "generate")
"""What a learner computes beside its forward pass."""


def shard(learner: Learner, accelerator: Accelerator) -> None:
    """Shard a learner, which is in the host's memory, over all processes, each of which calls this.

    Raises: ``UserError`` for a layer that cannot be sharded, and for a PyTorch that cannot.
    """
    try:
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        inspect.signature(fully_shard).parameters["ignored_params"]
    except (ImportError, KeyError) as error:
        raise UserError("--sharding needs FSDP2 of a newer PyTorch (2.14 is tested): upgrade torch") from error
    _check(learner)
    device = accelerator.device
    mesh = torch.distributed.init_device_mesh(device.type, (accelerator.num_processes,))
    whole = {parameter for parameter in learner.parameters() if parameter.dim() == 0}
    for parameter in learner.parameters():
        parameter.data = parameter.data.to(device, copy=True) if parameter in whole else parameter.data.contiguous()
    # After every forward, the learner's too: between steps there are shards alone, which the optimiser changes.
    options: dict[str, Any] = {"mesh": mesh, "ignored_params": whole, "reshard_after_forward": True}
    for tower in learner.backbone.towers(learner.model).values():
        for block in tower:
            fully_shard(block, **options)
    fully_shard(learner, **options)
    for name in COMPUTING:
        register_fsdp_forward_method(learner, name)


def _check(learner: Learner) -> None:
    """Raise ``UserError`` for a layer that cannot be sharded."""
    for name, module in learner.named_modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            raise UserError(f"--sharding: {name} keeps statistics of batches, which would differ between processes")
    # Some layers put new parameters in place of theirs whenever they are looked at, as some of peft do.
    first, again = dict(learner.named_parameters()), dict(learner.named_parameters())
    for name, parameter in first.items():
        if again.get(name) is not parameter:
            raise UserError(f"--sharding: the layer of {name} replaces its own weights: leave --sharding out")


def is_sharded(learner: Learner) -> bool:
    return any(_is_shard(parameter) for parameter in learner.parameters())


def _is_shard(parameter: Tensor) -> bool:
    return hasattr(parameter, "to_local")  # a DTensor: its class takes seconds to import


def local(parameter: Tensor) -> Tensor:
    """Return what this process holds of a parameter, without its history: a shard's own numbers, or all."""
    detached: Any = parameter.detach()
    return detached.to_local() if _is_shard(detached) else detached


def gather(learner: Learner, accelerator: Accelerator) -> dict[str, Tensor]:
    """Return what is learnt in a sharded learner as a whole, in the host's memory, on the main process; nothing on
    others. All processes have to call it."""
    gathered = {}
    for name, parameter in learner.learnt().items():
        tensor: Any = parameter.detach()
        tensor = tensor.full_tensor() if _is_shard(tensor) else tensor
        if accelerator.is_main_process:
            gathered[name] = tensor.cpu()
    return gathered


class Shards:
    """A sharded learner in training: as ``Replicas``, of which each process has a part.

    Optimisers change numbers one by one, and so they are given the shards as plain tensors on the same storage:
    their fused kernels take them beside those that are whole, and what they keep is saved as it is.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        learner: Learner,
        optimizer: Callable[[Mapping[str, nn.Parameter]], torch.optim.Optimizer],
    ) -> None:
        self.accelerator, self.learner = accelerator, learner
        self._trainable = learner.trainable()
        self._held = {name: nn.Parameter(local(parameter)) for name, parameter in self._trainable.items()}
        # To evaluate: of the learner accelerate knows no more than the precision in which it computes.
        self.model = accelerator.prepare_model(learner, device_placement=False, evaluation_mode=True)
        self.optimizer: Any = accelerator.prepare_optimizer(optimizer(self._held))

    def zero_grad(self) -> None:
        self.learner.zero_grad()

    def adding_up(self) -> AbstractContextManager[Any]:
        """Nothing is put off: gradients that wait to be shared out would be whole on each process."""
        return nullcontext()

    def clip(self, norm: float) -> None:
        """Give the optimiser its gradients, clipped to a norm, over all processes, of all together."""
        shards, whole = [], []
        for name, parameter in self._trainable.items():
            held, gradient = self._held[name], parameter.grad
            held.grad = None
            if gradient is None:
                continue
            if _is_shard(gradient):
                held.grad = local(gradient)
                shards.append(held.grad)
            else:
                held.grad = self.accelerator.reduce(gradient, "mean")
                whole.append(held.grad)
        square = self.accelerator.reduce(self._square(shards), "sum") + self._square(whole)
        torch.nn.utils.clip_grads_with_norm_(self._held.values(), norm, square.sqrt())

    def _square(self, gradients: list[Tensor]) -> Tensor:
        """Return the square of the norm of gradients, 0 if there are none."""
        return torch.nn.utils.get_total_norm(gradients).to(self.accelerator.device).square()
