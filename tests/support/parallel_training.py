"""What ``test_parallel`` runs in one process and, as a script under ``torchrun``, in several: toy trainings.

    torchrun --standalone --nproc-per-node 2 tests/support/parallel_training.py FOLDER METHOD...

Each process leaves what it saw in FOLDER/NUMBER.pt.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # as a script it finds its own folder alone

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from support.toys import ToyTask, ToyViT
from zipeft import registry
from zipeft.api.learner import Learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.training import parallel
from zipeft.training.dataset import EncodedSplit, encode
from zipeft.training.execution import BY_DEFAULT, Execution
from zipeft.training.loop import Trainer

EXAMPLES, BATCH = 29, 7
"""Shares of two processes are of 4 and 3 examples, and of 1 and none in the last batch."""


class Diverging(ToyTask):
    """Its loss is not finite on the main process's share of the first batch."""

    def loss(self, outputs, targets):
        return super().loss(outputs, targets) * (math.nan if Accelerator().is_main_process else 1)


def observe(names: list[str]) -> dict[str, Any]:
    """Train with every named method, and say what this process saw."""
    torch.set_num_threads(1)  # the processes share the cores
    accelerator = parallel.new_accelerator(cpu=True)
    return {
        "trained": {name: train(registry.methods.get(name)(), accelerator) for name in names},
        "in parts": train(registry.methods.get("zero_gated")(), accelerator, execution=Execution(micro_batch=2)),
        "unused": train(registry.methods.get("full")(), accelerator, unused=True),
        "not finite": message(
            lambda: train(registry.methods.get("linear")(), accelerator, Diverging(examples=EXAMPLES))
        ),
        "agreed": parallel.agree(accelerator, {"process": accelerator.process_index}),
        "merged": parallel.merge(accelerator, parallel.Shard.of_process(accelerator).of([*"abcde"])),
    }


def train(
    method: Method,
    accelerator: Accelerator,
    task: ToyTask | None = None,
    unused: bool = False,
    execution: Execution = BY_DEFAULT,
) -> dict[str, Any]:
    """Train the toy; ``unused`` adds a parameter that no output depends on."""
    task = task or ToyTask(examples=EXAMPLES)
    learner, train, validation = prepared(method, task)
    if unused:
        learner.model.pooler = torch.nn.Linear(3, 3)
    steps: list[int] = []
    trainer = Trainer(task, TrainingProtocol(epochs=3, batch_size=BATCH), accelerator, execution)
    log = trainer.fit(learner, method, train, validation, seed=0, on_step=steps.append)
    scores = trainer.evaluator.test(learner, validation)
    accelerator.free_memory()
    return {
        "losses": [epoch.train_loss for epoch in log.history],
        "validation": [epoch.validation for epoch in log.history],
        "counts": (log.selected_epoch, log.steps, log.examples, steps),
        "after": scores,
        "drawn": torch.rand(4),
        "parameters": {name: parameter.detach().clone() for name, parameter in learner.trainable().items()},
    }


def prepared(method: Method, task: ToyTask) -> tuple[Learner, EncodedSplit, EncodedSplit]:
    """Return the toy with a method applied, and its training and validation data, with the output of its frozen trunk
    where it has one."""
    set_seed(0)
    backbone, data = ToyViT(), task.load("colours")
    model = backbone.build().requires_grad_(False)
    head = task.head(data.classes, backbone.width(model))
    method.apply(backbone, model)
    learner = Learner(backbone, model, head).eval()
    windows = task.windows(backbone)
    splits = [encode(split, windows, backbone) for split in (data.train, data.validation)]
    learner.find_trunk(splits[0].sample_inputs(2))
    if learner.has_trunk:
        needs_inputs = not learner.only_head_trains
        splits = [
            replace(split, trunk_output=learner.run_trunk(split.sample_inputs(len(split))), needs_inputs=needs_inputs)
            for split in splits
        ]
    return learner, *splits


def message(action) -> str:
    try:
        action()
    except UserError as error:
        return str(error)
    return ""


def leave(folder: Path | str, methods: list[str]) -> None:
    outcome = observe(methods)
    torch.save(outcome, Path(folder, f"{Accelerator().process_index}.pt"))


if __name__ == "__main__":
    leave(sys.argv[1], sys.argv[2:])
