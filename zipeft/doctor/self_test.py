"""Train toys on a device by every method, and compare them with the CPU: ``python -m zipeft.doctor.self_test cuda``.

It runs in a process of its own: a driver may hang, and a kernel that does not go with the GPU may end it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradScalerKwargs
from torch import Tensor

from zipeft import registry
from zipeft.api.backbone import Backbone
from zipeft.api.learner import build_learner
from zipeft.api.method import Method
from zipeft.api.protocol import TrainingProtocol
from zipeft.doctor.check import Check
from zipeft.doctor.toys import CLASSES, examples, toys
from zipeft.errors import described
from zipeft.formatting import counted, duration, listing
from zipeft.objectives.default import default_objective
from zipeft.training.initialisation import initialise
from zipeft.training.loop import Trainer
from zipeft.training.parallel import new_accelerator
from zipeft.training.stopwatch import now

SECONDS = 60

BUDGET = 35.0
"""Seconds after which no training begins."""

Found = dict[str, dict[str, float | str]]
"""By precision, and by toy and method: how far apart, or what was raised."""

TOLERANCES = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.15}
"""How far the movement of all parameters may lie from the CPU's in float32, as a part of it. TF32 has 10 bits of
mantissa as fp16 has, bf16 has 7. On a CPU in bf16 the farthest toy, a CLIP whose text tower is gated, lies 10 % away; a
kernel that computes something else is off by more."""

PROTOCOL = TrainingProtocol(epochs=1, batch_size=4, optimizer="SGD", schedule="constant", warmup=0.0)
"""Plain steps: AdamW's first ones have the sign of a gradient whatever its size, and so of its rounding. Of one epoch:
rounding would decide which of several is the best."""


@dataclass(frozen=True)
class Trained:
    """How a training went: the mean loss of each step, and how far the parameters moved, those of the method and those
    of the head apart, each as one vector."""

    losses: list[float]
    moved: list[Tensor]

    def distance(self, other: Trained) -> float:
        """Return how far apart two trainings are, as a part of the other's movements and losses."""
        pairs = zip(self.moved, other.moved, strict=True)
        of_parameters = [float((a - b).norm() / b.norm()) for a, b in pairs if len(b)]
        of_losses = [abs(a - b) / abs(b) for a, b in zip(self.losses, other.losses, strict=True)]
        return max(*of_parameters, *of_losses)


def self_test(device: torch.device) -> Check:
    """Run the test in a process of its own, for a minute at most."""
    command = [sys.executable, "-m", "zipeft.doctor.self_test", device.type]
    start = now()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Check("self-test", f"no end in {SECONDS} s", "broken", "the device hangs, or others work it hard")
    took = duration((now() - start).wall)
    try:
        apart, left_out = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        words = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return Check("self-test", words[0], "broken", "torch cannot train on this device: see the checks above")
    return _verdict(apart, left_out, took)


def _verdict(apart: Found, left_out: int, took: str) -> Check:
    """Return the check of what each training in each precision was apart from the CPU's, or raised, and of how many
    there was no time for."""
    wrong, worst = [], []
    for precision, found in apart.items():
        numbers = [value for value in found.values() if not isinstance(value, str)]
        worst.append(f"{precision} {max(numbers, default=0.0):.1%}")
        for name, value in found.items():
            if isinstance(value, str):
                wrong.append(f"{precision} {name}: {value}")
            elif not value <= TOLERANCES[precision]:  # as NaN is not
                wrong.append(f"{precision} {name}: {value:.1%} apart")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Check("self-test", "; ".join(wrong[:3]) + more, "broken", "do not trust numbers of this device")
    trainings = counted(sum(map(len, apart.values())), "training")
    more = f", no time for {left_out} more" if left_out else ""
    return Check("self-test", f"{trainings} like the CPU's in {took}{more}; farthest apart: {listing(worst)}")


def compare(device: torch.device) -> tuple[Found, int]:
    """Return how far a device's trainings lie from the CPU's in float32, or what they raise, and how many are left out
    because ``BUDGET`` seconds are over."""
    start, left_out = now(), 0
    found: Found = {precision: {} for precision in _precisions(device)}
    backbones = toys()
    for method_name in sorted(registry.methods.by_default(), reverse=True):  # the gated ones first
        for toy, backbone in backbones.items():
            if not _trains(method_name, backbone):
                continue
            if (now() - start).wall > BUDGET:
                left_out += len(found)
                continue
            method = replace(registry.methods.get(method_name)(), learning_rate=0.1, head_learning_rate=0.1)
            with accelerated(torch.device("cpu"), "fp32") as accelerator:
                reference = train(backbone, method, accelerator)
            for precision in found:
                with accelerated(device, precision) as accelerator:
                    try:
                        apart: float | str = train(backbone, method, accelerator).distance(reference)
                    except Exception as error:  # whatever a driver, a kernel or a library raises
                        apart = described(error)
                found[precision][f"{toy} {method_name}"] = apart
    return found, left_out


def train(backbone: Backbone, method: Method, accelerator: Accelerator) -> Trained:
    """Train a toy from the same start each time."""
    objective = method.objective(default_objective(backbone))
    torch.manual_seed(0)
    model = backbone.build().requires_grad_(False)
    classes = [str(index) for index in range(CLASSES)]
    learner = build_learner(method.adapt, backbone, model, objective, classes).to(accelerator.device)
    start = {name: parameter.detach().clone() for name, parameter in learner.trainable().items()}
    train, validation = examples(backbone, 0), examples(backbone, 1)
    initialise(learner, method, objective, train, 0, accelerator, PROTOCOL.batch_size)
    log = Trainer(objective, PROTOCOL, accelerator).fit(learner, method, train, validation, seed=0)
    moved = []
    for part in (learner.method_parameters(), learner.head_parameters()):
        each = [(parameter.detach() - start[name]).flatten().cpu() for name, parameter in part.items()]
        moved.append(torch.cat(each) if each else torch.empty(0))
    return Trained(list(log.history[0].losses), moved)


def _trains(method: str, backbone: Backbone) -> bool:
    return registry.methods.get(method).goes_with(backbone.modality) and method != "untuned"


def _precisions(device: torch.device) -> list[str]:
    if device.type == "cuda":
        return ["fp32", "bf16", "fp16"] if torch.cuda.is_bf16_supported() else ["fp32", "fp16"]
    return ["bf16"] if device.type == "cpu" else ["fp32"]  # the CPU's float32 is what all is compared with


@contextmanager
def accelerated(device: torch.device, precision: str) -> Iterator[Accelerator]:
    """An accelerator of a device and a precision; accelerate has one a process, which is forgotten before and after.

    Raises: ``ValueError`` for a precision that accelerate does not take on the device.
    """
    # Gradients of toys would overflow fp16 at the first scales that torch tries, and the steps be left out.
    scaler = GradScalerKwargs(init_scale=256.0)
    AcceleratorState._reset_state(True)
    try:
        yield new_accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no" if precision == "fp32" else precision,
            kwargs_handlers=[scaler],
        )
    finally:
        AcceleratorState._reset_state(True)


if __name__ == "__main__":
    print(json.dumps(compare(torch.device(sys.argv[1]))))
