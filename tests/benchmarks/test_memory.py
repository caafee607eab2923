"""Peak memory of trainings on the embedded language model: with the frozen weights shared, and copied for each run.

Run with ``pytest -m slow -s tests/benchmarks/test_memory.py``. Each training has a process of its own, so that none
finds what another one has freed. The peak is that of a run's record: the resident set while it trains, of which imports
and data take about a gigabyte. It is printed with what it is above the process's size before weights are loaded.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import psutil
import pytest

pytestmark = pytest.mark.slow

METHODS = ("zero_gated", "lora", "full")
SHARED, COPIED = "shared", "copied"
MIB = 2**20


def measured(method: str, way: str, dtype: str = "fp32") -> tuple[int, int]:
    """Return the resident set before weights are loaded and the peak while a method trains, in bytes."""
    command = [sys.executable, __file__, method, way, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main(method: str, way: str, dtype: str) -> None:
    from accelerate import Accelerator

    from zipeft import registry
    from zipeft.api.protocol import TrainingProtocol
    from zipeft.experiments.comparison import Comparison, Contender, Run
    from zipeft.experiments.experiment import Experiment
    from zipeft.registry import Named
    from zipeft.training.frozen_model import FrozenModel

    if way == COPIED:
        FrozenModel.copy = lambda self: copy.deepcopy(self.model)
    settings = {} if dtype == "fp32" else {"dtype": dtype}
    backbone, task = registry.backbones.get("llama")(**settings), registry.tasks.get("instruct")()
    contender = Contender(method, registry.methods.get(method)())
    precision = "fp32" if dtype == "fp32" else "bf16"
    protocol = TrainingProtocol(epochs=1, batch_size=2, max_steps=4, precision=precision)
    comparison = Comparison(Named("llama", backbone), Named("instruct", task), (contender,), protocol, (0,))
    experiment = Experiment(
        comparison, Accelerator(cpu=True, mixed_precision=protocol.precision.replace("fp32", "no")), ""
    )
    dataset = task.datasets()[0]
    _ = experiment.loaded(dataset).encoded
    from peft import LoraConfig  # noqa: F401  # what a method imports is no matter of weights

    before = psutil.Process().memory_info().rss
    record, _ = experiment.measure(Run(dataset, contender, 0, trial=0))
    print(record.validation, [e.train_loss for e in record.history], file=sys.stderr)
    print(json.dumps([before, record.cost.peak_memory_bytes]))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_weights_are_in_memory_once(method):
    above = {}
    for way in (COPIED, SHARED):
        before, peak = measured(method, way)
        above[way] = peak - before
        print(f"{method:12} {way}: peak {peak / MIB:7.0f} MiB, {above[way] / MIB:7.0f} MiB above what there was before")
    weights = 538_060_032  # bytes of SmolLM2-135M in float32
    if method == "full":
        assert above[SHARED] < above[COPIED] + weights // 4
    else:
        assert above[SHARED] < above[COPIED] - weights // 2


if __name__ == "__main__":
    main(*sys.argv[1:])
