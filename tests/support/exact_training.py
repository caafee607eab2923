"""Toy trainings in float64 and without dropout, in which two ways to the same gradients can be told from two gradients.

Several processes, each of which calls ``after_five_steps``, train them together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from support.method_cases import methods_for
from support.toys import TOYS
from zipeft import registry
from zipeft.api.data import NO_LABEL, Split, Window
from zipeft.api.learner import Learner, build_learner
from zipeft.api.objective import Objective
from zipeft.api.protocol import TrainingProtocol
from zipeft.objectives.classification import Classification, TextClassification
from zipeft.objectives.extractive_qa import Spans
from zipeft.objectives.matching import BaseToNovel, Matching
from zipeft.objectives.options import Options
from zipeft.objectives.regression import Regression
from zipeft.objectives.responses import Responses
from zipeft.objectives.sequence_labelling import SequenceLabelling
from zipeft.training.activation_checkpointing import checkpointed_activations
from zipeft.training.batches import shuffled_batches
from zipeft.training.dataset import EncodedSplit, encode
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.optimizers import learning_rate_factor, new_optimizer
from zipeft.training.parallel import Replicas, Shard
from zipeft.training.sharding import Shards, gather, shard
from zipeft.training.step import TrainingStep

STEPS, BATCH, EXAMPLES, RATE = 5, 8, 36, 1e-2
"""The last batch is of four examples. The learning rate moves parameters far beyond what may differ."""

Target = Callable[[int, random.Random], Any]
"""Draws the target of a window of so many tokens."""

OBJECTIVES: dict[str, tuple[str, Objective, Target | None]] = {
    "classification": ("toy_text", Classification(), lambda tokens, stream: stream.randrange(2)),
    "text classification": ("toy_text", TextClassification(("f1",)), lambda tokens, stream: stream.randrange(2)),
    "regression": ("toy_text", Regression(0, 5), lambda tokens, stream: stream.uniform(0, 5)),
    "spans": ("toy_text", Spans(), lambda tokens, stream: (stream.randrange(tokens), stream.randrange(tokens))),
    "sequence labelling": (
        "toy_text",
        SequenceLabelling(("O", "B-X")),
        lambda tokens, stream: torch.tensor([NO_LABEL, *(stream.randrange(2) for _ in range(tokens - 1))]),
    ),
    "responses": ("toy_instruct", Responses(), None),
    "matching": ("toy_image_text", Matching(), None),
    "base to novel": ("toy_image_text", BaseToNovel(classes=(*"abcdef",)), None),
    "options": ("toy_vlm", Options(), None),
}
"""A toy for every objective, and what draws targets where the toy's own do not suit it."""

OF_TOY = {
    "toy": "classification",
    "toy_text": "regression",
    "toy_instruct": "responses",
    "toy_image_text": "matching",
    "toy_vlm": "options",
}

METHODS = [
    (toy, method, OF_TOY[toy])
    for toy, (backbone, _) in TOYS.items()
    for method in methods_for(backbone.modality)
    if method != "untuned"
]
"""Every method that trains on the toy of every modality that it goes with."""


def after_five_steps(toy: str, name: str, objective: str, execution: Execution = BY_DEFAULT) -> dict[str, Tensor]:
    """Return what trains, by name, after five steps of a method for an objective; sharded, on the main process."""
    accelerator, protocol = Accelerator(cpu=True), TrainingProtocol(batch_size=BATCH)
    learner, train, own = prepared(toy, name, objective)
    method = registry.methods.get(name)(learning_rate=RATE, head_learning_rate=RATE)
    micro_batches = execution.micro_batches()
    loader = shuffled_batches(train, BATCH, 0, Shard.of_process(accelerator), micro_batches)
    if execution.sharding:
        shard(learner, accelerator)
    kind = Shards if execution.sharding else Replicas
    together = kind(accelerator, learner, partial(new_optimizer, learner, method, protocol))
    schedule = LambdaLR(together.optimizer.optimizer, learning_rate_factor(protocol, STEPS, len(loader)))
    callback = method.callback(learner.model, STEPS)
    step = TrainingStep(own, together, schedule, protocol.clip, train, micro_batches, callback)
    with checkpointed_activations(learner) if execution.checkpoint_activations else nullcontext():
        taken = [step.take(*each) for each in islice(zip(loader, loader.sampler.weights(), strict=True), STEPS)]
    assert len(taken) == STEPS
    accelerator.free_memory()
    if execution.sharding:
        return gather(learner, accelerator)
    return {name: parameter.detach().clone() for name, parameter in learner.trainable().items()}


def prepared(toy: str, name: str, objective: str) -> tuple[Learner, EncodedSplit, Objective]:
    """Return a toy with a method applied, its training data, and what it learns of them."""
    backbone_class, task_class = TOYS[toy]
    backbone, task, method = backbone_class(), task_class(examples=EXAMPLES), registry.methods.get(name)()
    data = task.load(task.datasets()[0])
    _, own, target = OBJECTIVES[objective]
    own, classes = method.objective(own), data.classes or [*"abc"]
    set_seed(0)
    learner = build_learner(method.adapt, backbone, backbone.build().requires_grad_(False), own, classes)
    exact(learner)
    train = encoded(data.train, task, backbone, target if toy == "toy_text" else None)
    learner.find_trunk(train.sample_inputs(2))
    return learner, train, own


def exact(learner: Learner) -> None:
    """Let a learner compute in float64 and draw nothing, and start what is zero, which hides gradients, elsewhere."""
    for module in learner.modules():
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None and tensor.is_floating_point():
                    # In place of ``double``, which what trains in float32 whatever its model's dtype does not follow.
                    tensor.data = tensor.data.double()
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.trainable().values():
            if not parameter.any():
                parameter.add_(torch.randn(parameter.shape, generator=stream).double(), alpha=0.1)


def encoded(split: Split, task: Any, backbone: Any, target: Target | None) -> EncodedSplit:
    """Return a split whose inputs are in float64, and whose targets are the task's own or drawn."""
    windows_of, stream = task.windows(backbone), random.Random(0)

    def windows(example: Any, given: Any) -> list[Window]:
        own = [window._replace(inputs=widened(window.inputs)) for window in windows_of(example, given)]
        if target is None:
            return own
        return [window._replace(target=target(len(window.inputs["input_ids"]), stream)) for window in own]

    return encode(split, windows, backbone)


def widened(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return inputs.double() if inputs.is_floating_point() else inputs
    return {name: widened(value) for name, value in inputs.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To 1e-6, relative to the parameter's largest number."""
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        torch.testing.assert_close(
            parameter, expected[name], rtol=1e-6, atol=1e-6 * expected[name].abs().max().item(), msg=name
        )
