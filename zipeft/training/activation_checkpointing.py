"""Activation checkpointing: blocks keep their inputs alone, and compute the rest once more on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zipeft.api.learner import Learner
from zipeft.modules.zero_gated_prompt import ZeroGatedPrompt


@contextmanager
def checkpointed_activations(learner: Learner) -> Iterator[None]:
    """Let the blocks above a learner's frozen trunk recompute their activations while this context lasts.

    Gradients are the same: random numbers are drawn again, and what hooks put in front of a block is its input. A step
    takes one more forward pass of these blocks (Chen et al., arXiv 1604.06174).
    """
    with ExitStack() as stack:
        for block in _blocks_to_checkpoint(learner):
            stack.enter_context(_checkpointed(block))
        yield


def _blocks_to_checkpoint(learner: Learner) -> list[nn.Module]:
    """Return the blocks of all towers but those of the frozen trunk."""
    if learner.only_head_trains:
        return []
    trunk = set(map(id, learner.backbone.blocks(learner.model)[: learner.frozen_blocks]))
    towers = learner.backbone.towers(learner.model).values()
    return [block for tower in towers for block in tower if id(block) not in trunk]


@contextmanager
def _checkpointed(block: nn.Module) -> Iterator[None]:
    forward = block.forward
    prompts = [module for module in block.modules() if isinstance(module, ZeroGatedPrompt)]

    @wraps(forward)  # hooks read from its signature what a block takes
    def outputs(*args: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **options)
        conditions = [prompt.condition for prompt in prompts]
        return checkpoint(
            partial(_with_conditions, forward, prompts, conditions), *args, use_reentrant=False, **options
        )

    block.forward = outputs  # the instance's own, beside that of its class
    try:
        yield
    finally:
        del block.forward


def _with_conditions(
    forward: Any, prompts: list[ZeroGatedPrompt], conditions: list[torch.Tensor | None], *args: Any, **options: Any
) -> Any:
    """Compute a block under the conditions that its prompts were under: on the way back the model has new ones."""
    present = [prompt.condition for prompt in prompts]
    for prompt, condition in zip(prompts, conditions, strict=True):
        prompt.condition = condition
    try:
        return forward(*args, **options)
    finally:
        for prompt, condition in zip(prompts, present, strict=True):
            prompt.condition = condition
