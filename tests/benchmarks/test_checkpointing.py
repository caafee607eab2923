"""What activation checkpointing saves of a training step's memory, and costs in time, on embedded architectures.

Run with ``pytest -m slow -s tests/benchmarks/test_checkpointing.py``; OMP_NUM_THREADS sets the threads. Memory is the
peak of the resident set during one step above what the process held before it, with each way in a process of its own,
beside what ``zipeft.prediction`` says of the same. Time is measured on a quarter of the batch, with both ways in turn
on the same model, and is the ratio of the medians of the CPU time. What is asserted: gradients are the same to the last
bit, and less is held. Weights are random; a step does not know.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from statistics import median

import pytest

pytestmark = pytest.mark.slow

CASES = {
    "SmolLM2-135M, 4 x 256 tokens": ("llama", {"length": 256}, 4),
    "DINOv2-S, 16 x 224 pixels": ("vit", {"image_size": 224}, 16),
}
METHODS = ("zero_gated", "lora", "full")
ROUNDS = 3
MIB = 2**20

RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""With these glibc gives freed memory back: what an earlier tensor took is then no gap that a later one fills."""


def asked(what: str, case: str, method: str, checkpoint: bool = False):
    """Return what a process of its own finds."""
    command = [sys.executable, __file__, what, case, method, str(int(checkpoint))]
    environment = os.environ | (RETURNED if what == "measured" else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_a_step_takes_less_memory_and_has_the_same_gradients(case, method, capsys):
    measured = [asked("measured", case, method, checkpoint) for checkpoint in (False, True)]
    both = asked("compared", case, method)
    with capsys.disabled():
        cells = [f"{each / MIB:,.0f} MiB" for pair in (measured, both["predicted"]) for each in pair]
        print(f"\n| {case} | {method} | {' | '.join(cells)} | {both['ratio']:.2f} |")
    assert both["equal"]
    assert measured[1] < measured[0]
    assert both["predicted"][1] < both["predicted"][0]


# --- in a process of its own ------------------------------------------------------------------------------------------


class Training:
    """A method on an architecture, and what takes its steps."""

    def __init__(self, case: str, method: str) -> None:
        from zipeft import registry
        from zipeft.api.protocol import TrainingProtocol

        name, self.sizes, self.batch_size = CASES[case]
        self.backbone = registry.backbones.get(name)(pretrained=False)
        self.method = registry.methods.get(method)()
        self.protocol = TrainingProtocol(batch_size=self.batch_size)

    def build(self):
        from zipeft.api.learner import build_learner
        from zipeft.objectives.default import default_objective

        objective = self.method.objective(default_objective(self.backbone))
        model = self.backbone.build().requires_grad_(False)
        return build_learner(self.method.adapt, self.backbone, model, objective, ["a", "b"])

    def batch(self, size: int):
        return self.backbone.random_batch(size, **self.sizes)

    def begin(self):
        """Return a learner that has taken a small step, so that libraries and the optimiser's state are there."""
        from zipeft.training.optimizers import new_optimizer

        learner = self.build()
        learner.find_trunk(self.batch(1))
        learner.train()
        optimizer = new_optimizer(learner, self.method, self.protocol)
        gradients(learner, self.backbone.random_batch(1, length=8, image_size=28), False)
        optimizer.step()
        optimizer.zero_grad()
        return learner, optimizer


def gradients(learner, batch, checkpoint: bool) -> None:
    from zipeft.training.activation_checkpointing import checkpointed_activations

    with checkpointed_activations(learner) if checkpoint else nullcontext():
        learner(batch).float().square().mean().backward()


def measured(training: Training, checkpoint: bool) -> int:
    """Return by how many bytes the process grows, at most, in a step."""
    import torch

    from zipeft.training.costs import PeakMemory

    (learner, optimizer), batch = training.begin(), training.batch(training.batch_size)
    with PeakMemory(torch.device("cpu")) as before:
        pass
    with PeakMemory(torch.device("cpu")) as memory:
        gradients(learner, batch, checkpoint)
        optimizer.step()
    return memory.bytes - before.bytes


def compared(training: Training, _: bool) -> dict:
    """Return what is predicted of ``measured`` without checkpointing and with it, the ratio of the time of a step with
    it to that without, and whether gradients are equal."""
    import torch

    (learner, optimizer), batch = training.begin(), training.batch(training.batch_size // 4)
    times, found = {False: [], True: []}, {}
    for number in range(ROUNDS + 1):
        for checkpoint, own in times.items():
            start = time.process_time()
            gradients(learner, batch, checkpoint)
            if number:  # the first warms up
                own.append(time.process_time() - start)
            else:
                found[checkpoint] = [p.grad.clone() for p in learner.trainable().values() if p.grad is not None]
            optimizer.zero_grad()
    equal = len(found[0]) == len(found[1]) > 0 and all(map(torch.equal, *found.values()))
    ratio = median(times[True]) / median(times[False])
    return {"predicted": [predicted(training, way) for way in times], "ratio": ratio, "equal": equal}


def predicted(training: Training, checkpoint: bool) -> int:
    """Return the growth in a step without computing; the gradients of the last one have been dropped."""
    from zipeft.prediction.step import step_cost

    cost = step_cost(
        training.build, training.batch, training.method, training.protocol, checkpointing=checkpoint, device="cpu"
    )
    return cost.peak - cost.held + cost.gradients


if __name__ == "__main__":
    what, case, method, checkpoint = sys.argv[1:]
    print(json.dumps(globals()[what](Training(case, method), bool(int(checkpoint)))))
