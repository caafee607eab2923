"""The model that learns: a backbone with a method applied, and a head; it can start above its frozen layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zipeft.api.precision import at_least_float32
from zipeft.modules.held_tensors import held

if TYPE_CHECKING:
    from zipeft.api.backbone import Backbone
    from zipeft.api.objective import Objective

Read = Callable[["Backbone", nn.Module, Any], Tensor]
"""Returns what a head takes, from a backbone, its model and a batch of inputs: see ``Objective.read``."""


def _features(backbone: Backbone, model: nn.Module, inputs: Any) -> Tensor:
    return backbone.features(model, inputs)


class Learner(nn.Module):
    """A backbone and a head, which takes what ``read`` returns: the backbone's features, unless told otherwise.

    The *frozen trunk* is what no trainable parameter changes. Its output is the hidden states (batch, tokens, width)
    that leave the last of the ``frozen_blocks``, or what the head reads if only the head trains. Where inputs are not
    augmented it is the same in every epoch, so it can be computed once and handed to ``forward``.
    """

    def __init__(self, backbone: Backbone, model: nn.Module, head: nn.Module, read: Read = _features) -> None:
        super().__init__()
        self.backbone, self.model, self.head, self.read = backbone, model, head, read
        self.frozen_blocks = 0
        self.only_head_trains = False
        self.chosen: dict[str, float] = {}
        """What ``Objective.choose`` chose on validation data."""

    def find_trunk(self, inputs: Any) -> None:
        """Find how far up the model is frozen, by asking autograd what carries a gradient for one batch of inputs."""
        blocks = self.backbone.blocks(self.model)
        carries: list[bool] = []
        rows: set[int] = set()

        def keep(_block: nn.Module, _args: tuple[Any, ...], hidden: Tensor) -> None:
            carries.append(hidden.requires_grad)
            rows.add(len(hidden))

        with torch.enable_grad(), _hooks(blocks, keep):
            features = self._read(inputs)
        self.only_head_trains = not features.requires_grad
        self.frozen_blocks = carries.index(True) if True in carries else len(carries)
        if rows != {len(features)}:  # what goes through the blocks are no examples, of which each has its output
            self.frozen_blocks = 0

    @property
    def has_trunk(self) -> bool:
        return self.only_head_trains or self.frozen_blocks > 0

    @torch.no_grad()
    def run_trunk(self, inputs: Any) -> Tensor:
        """Return the output of the frozen trunk for a batch of inputs, and compute nothing above it."""
        if self.only_head_trains:
            return self._read(inputs)
        last = self.backbone.blocks(self.model)[self.frozen_blocks - 1]
        with _hooks([last], _stop):
            try:
                self._read(inputs)
            except _Reached as reached:
                return reached.hidden
        raise RuntimeError(f"{type(self.model).__name__} did not run its blocks")

    @torch.no_grad()
    def generate(self, prompts: dict[str, Tensor], max_new_tokens: int, **options: Any) -> list[list[int]]:
        """Return how a language model goes on from a batch of prompts: see ``LanguageBackbone.generate``."""
        backbone: Any = self.backbone
        return backbone.generate(self.model, prompts, max_new_tokens, **options)

    def forward(self, inputs: Any = None, trunk_output: Tensor | None = None) -> Tensor:
        """Return the head's outputs for inputs, or from the output of their frozen trunk (and the inputs, unless only
        the head trains)."""
        if trunk_output is None:
            features = self._read(inputs)
        elif self.only_head_trains:
            features = trunk_output
        else:
            with _returning(self.backbone.blocks(self.model)[: self.frozen_blocks], trunk_output):
                features = self._read(inputs)
        return self.head(at_least_float32(features))

    def train(self, mode: bool = True) -> Learner:
        """Put what can learn in training mode; frozen blocks below it stay in evaluation mode, without dropout."""
        super().train(mode)
        if mode and self.has_trunk:
            self.model.eval()
            if not self.only_head_trains:
                for block in self.backbone.blocks(self.model)[self.frozen_blocks :]:
                    block.train()
        return self

    def _read(self, inputs: Any) -> Tensor:
        return self.read(self.backbone, self.model, inputs)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that train, by name: those of the method, then those of the head."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def learnt(self) -> dict[str, Tensor]:
        """Return what a saved adapter holds, by name: what trains, and what beside it is held."""
        return {**self.trainable(), **held(self)}

    def method_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that train in the model, by name."""
        head = self.head_parameters()
        return {name: parameter for name, parameter in self.trainable().items() if name not in head}

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that train in the head, and in what the backbone counts as one, by name."""
        heads = {id(each) for head in (self.head, *self.backbone.heads(self.model)) for each in head.parameters()}
        return {name: parameter for name, parameter in self.trainable().items() if id(parameter) in heads}


def build_learner(
    apply: Callable[[Backbone, nn.Module], None],
    backbone: Backbone,
    model: nn.Module,
    objective: Objective,
    classes: Sequence[str],
) -> Learner:
    """Return what is to learn: a frozen model, changed in place by ``apply``, as a method does it, and a head.

    ``objective`` is that of a data set with these classes, as the method has it.
    """
    objective.prepare(backbone, model, classes)
    head = objective.head(classes, backbone.width(model))
    apply(backbone, model)
    return Learner(backbone, model, head, objective.read)


class _Reached(Exception):
    def __init__(self, hidden: Tensor) -> None:
        self.hidden = hidden


def _stop(_block: nn.Module, _args: tuple[Any, ...], hidden: Tensor) -> None:
    raise _Reached(hidden)


@contextmanager
def _hooks(blocks: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block.register_forward_hook(hook))
        yield


@contextmanager
def _returning(blocks: Sequence[nn.Module], hidden: Tensor) -> Iterator[None]:
    """Let blocks return the given hidden states at once."""
    for block in blocks:
        block.forward = lambda *_args, **_options: hidden
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
