"""How long a training step takes in two versions of zipeft, as a ratio, on the embedded models.

Usage: OMP_NUM_THREADS=1 python tests/benchmarks/compare_steps.py OLD_PYTHON NEW_PYTHON [CASE ...]

Each Python has a version of zipeft installed from its checkout (pip install -e). A process of each lives through all
rounds and they take turns, so that both see the same state of a busy machine; the ratio is that of the medians of the
CPU time that a run's record says its training took, by its steps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

ROUNDS, STEPS = 7, 6

CASES = {  # backbone, task, its settings, data set, batch size
    "vit": ("vit", "fgvc", '{"image_size": 56}', "icons", 16),
    "roberta": ("roberta", "glue", "{}", "movie-sentiment", 16),
    "llama": ("llama", "instruct", '{"validation_examples": 4, "train_examples": 48}', "natural-instructions", 4),
}
METHODS = ("zero_gated", "lora")

WORKER = """
import json
import sys
from pathlib import Path
import zipeft.api.protocol
sys.path.insert(0, str(Path(zipeft.api.protocol.__file__).parents[2] / "tests"))
from support import experiments
from zipeft import registry
from zipeft.registry import Named
backbone, task, settings, dataset, batch_size, steps = sys.argv[1:]
sizes = {"epochs": 1, "batch_size": int(batch_size), "max_steps": int(steps)}
parts = (registry.backbones.make(backbone, {}).plugin, registry.tasks.make(task, json.loads(settings)).plugin)
experiment = experiments.experiment(*parts, names=(backbone, task), **sizes)
for line in sys.stdin:
    cost = experiment.measure(experiments.run(dataset, line.strip(), trial=0))[0].cost
    print("took", cost.cpu_seconds / cost.steps, flush=True)
"""


class Worker:
    """A process of one version, which takes some steps of a method whenever it is asked."""

    def __init__(self, python: str, case: str) -> None:
        command = [Path(python).absolute(), "-c", WORKER, *map(str, CASES[case]), str(STEPS)]
        pipe = subprocess.PIPE
        # From a checkout either would import the zipeft that lies there.
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=Path(python).absolute().anchor
        )

    def seconds(self, method: str) -> float:
        """Return the CPU seconds of a step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(method, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("took "):
                return float(line.removeprefix("took "))
        raise SystemExit(f"{self.process.args[0]} ended early: run it alone to see why")  # type: ignore[index]


def main() -> None:
    old_python, new_python, *chosen = sys.argv[1:]
    for case in chosen or CASES:
        old, new = workers = [Worker(python, case) for python in (old_python, new_python)]
        for method in METHODS:
            rounds = [[worker.seconds(method) for worker in workers] for _ in range(ROUNDS + 1)][1:]  # one warms up
            before, after = (median(times) for times in zip(*rounds, strict=True))
            ratios = sorted(after / before for before, after in rounds)
            print(
                f"{case} {method}: {after / before:.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) of {before:.3f} s",
                flush=True,
            )
        for worker in (old, new):
            worker.process.kill()


if __name__ == "__main__":
    main()
