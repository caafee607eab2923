"""``python -m zipeft.run``: compare ways of fine-tuning a backbone on a task."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from zipeft import registry
from zipeft.backbone import Backbone
from zipeft.cli import ArgumentParser, exit_status
from zipeft.errors import UserError, did_you_mean
from zipeft.method import Method
from zipeft.protocol import Protocol
from zipeft.settings import override, parse_assignments
from zipeft.task import Preset, Task

if TYPE_CHECKING:
    from zipeft.experiment import Experiment, Run
    from zipeft.results import Result

SOME_FAILED = 1

EXAMPLES = """\
examples:
  python -m zipeft.run --backbone vit --task fgvc
      compare the default methods on the embedded sets; results go to results/
  python -m zipeft.run --backbone vit --task fgvc --method zero_gated lora --seeds 5 --set zero_gated.length=50
      two methods, five seeds, longer prompts
  python -m zipeft.run --backbone vit --task fgvc --data-dir ~/data --checkpoint vit_base_patch16_224 --preset paper
      the published sets, from a folder, on a checkpoint from the hub
  python -m zipeft.run --backbone vit --task folder --data-dir ~/pictures
      your own labelled pictures, a folder a class

`zipeft ls --verbose` lists backbones, tasks and methods with their settings.
An interrupted comparison goes on where it stopped when the same command is given again.
"""


@dataclass(frozen=True)
class Plan:
    """What the command line asks for, all names resolved and all settings checked."""

    backbone: tuple[str, Backbone]
    task: tuple[str, Task]
    methods: tuple[tuple[str, Method], ...]
    protocol: Protocol
    seeds: tuple[int, ...]


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison, print its table and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    plan = make_plan(options)
    datasets = plan.task[1].datasets()
    for folder in filter(None, (options.results, options.save_adapters)):
        _check_writable(folder)

    from accelerate import Accelerator

    from zipeft.experiment import Experiment
    from zipeft.leaderboard.tables import terminal_table

    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    command = shlex.join(["python", "-m", "zipeft.run", *arguments])
    accelerator = _accelerator(Accelerator, options.device, plan.protocol.precision)
    experiment = Experiment(plan.backbone, plan.task, plan.protocol, accelerator, command)
    results, failures = _measure_all(experiment, _runs(plan, datasets), options)
    if results:
        print(terminal_table(results))
        print(f"\n{len(results)} results are in {options.results}/; a page and a plot of them:")
        print(f"  python -m zipeft.leaderboard {options.results} --out {options.results}")
    for failure in failures:
        print(f"zipeft: failed: {failure}", file=sys.stderr)
    return SOME_FAILED if failures else 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m zipeft.run",
        description="Compare ways of fine-tuning a backbone on a task.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is compared")
    what.add_argument("--backbone", required=True, metavar="NAME", help="family of models, such as vit")
    what.add_argument("--checkpoint", metavar="NAME", help="which model of it (default: the embedded one)")
    what.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    what.add_argument("--task", required=True, metavar="NAME", help="task, such as fgvc or folder")
    what.add_argument("--data-dir", metavar="DIR", help="folder of the task's data (default: the embedded sets)")
    what.add_argument("--method", nargs="+", metavar="NAME", help="methods, or 'all' (default: the preset's)")
    how = parser.add_argument_group("how")
    how.add_argument("--preset", default="quick", metavar="NAME", help="quick (default), standard or paper")
    how.add_argument("--seeds", metavar="N", help="how many seeds, or a list of them such as 0,1,7")
    how.add_argument("--epochs", metavar="N")
    how.add_argument("--batch-size", metavar="N")
    how.add_argument("--steps", metavar="N", help="stop each training after so many optimiser steps")
    how.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    how.add_argument("--precision", choices=("fp32", "bf16", "fp16"))
    how.add_argument(
        "--set", action="append", default=[], metavar="NAME.SETTING=VALUE", help="a setting of any part, repeatable"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")
    where.add_argument("--redo", action="store_true", help="measure again what has a result already")
    where.add_argument("--save-adapters", type=Path, metavar="DIR", help="keep what every run learnt")
    return parser


def make_plan(options: argparse.Namespace) -> Plan:
    """Resolve names and settings. Raises ``UserError`` for whatever is unknown or does not fit."""
    backbone_class, task_class = registry.backbones.get(options.backbone), registry.tasks.get(options.task)
    if backbone_class.modality != task_class.modality:
        raise UserError(
            f"{options.task} is a task on {task_class.modality}s; the backbone {options.backbone} takes "
            f"{backbone_class.modality}s (zipeft ls lists all)"
        )
    preset = _preset(task_class, options.preset)
    names = _method_names(options.method, preset)
    assigned = parse_assignments(options.set)
    parts = ["backbone", "task", "protocol", options.backbone, options.task, *names]
    _check_parts(assigned, parts)
    backbone = _with(backbone_class, ("backbone", options.backbone), {"checkpoint": options.checkpoint}, assigned)
    if options.no_pretrained:
        backbone = replace(backbone, pretrained=False)
    task = _with(task_class(**preset.task), ("task", options.task), {"data_dir": options.data_dir}, assigned)
    flags = {"epochs": options.epochs, "batch_size": options.batch_size, "max_steps": options.steps}
    protocol = Protocol(preset=options.preset, **preset.protocol)
    protocol = _with(protocol, ("protocol",), {**flags, "precision": options.precision}, assigned)
    methods = tuple((name, _with(registry.methods.get(name), (name,), {}, assigned)) for name in names)
    seeds = _seeds(options.seeds) if options.seeds else tuple(range(preset.seeds))
    return Plan((options.backbone, backbone), (options.task, task), methods, protocol, seeds)


def _preset(task: type[Task], name: str) -> Preset:
    if name not in task.presets:
        raise UserError(f"unknown preset {name!r}{did_you_mean(name, task.presets)} ({', '.join(task.presets)})")
    return task.presets[name]


def _method_names(asked: Sequence[str] | None, preset: Preset) -> list[str]:
    if asked is None:
        return list(preset.methods) or registry.methods.names()
    names = [name for part in asked for name in part.split(",") if name]
    if names == ["all"]:
        return registry.methods.names()
    return list(dict.fromkeys(names))


def _check_parts(assigned: Iterable[str], parts: Sequence[str]) -> None:
    for name in assigned:
        if name not in parts:
            raise UserError(f"--set {name}...: this comparison has no {name!r}{did_you_mean(name, parts)}")
        if parts.count(name) > 1:
            raise UserError(f"--set {name}...: more than one part is called {name!r}; write backbone. or task.")


def _with(target: Any, names: Sequence[str], flags: dict[str, str | None], assigned: dict[str, dict[str, str]]) -> Any:
    """Set fields of a part, by whichever of its names, from flags and from --set; each field at most once."""
    values = {field: value for field, value in flags.items() if value is not None}
    for name in names:
        for field, value in assigned.get(name, {}).items():
            if field in values:
                raise UserError(f"{name}.{field} is set twice; keep one")
            values[field] = value
    return override(target, values, names[-1])


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        seeds = ()
    if "," not in text and len(seeds) == 1:
        seeds = tuple(range(seeds[0]))
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text}: give a number of seeds, such as 3, or a list, such as 0,1,7")
    return tuple(dict.fromkeys(seeds))


def _check_writable(folder: Path) -> None:
    """Make a folder. Raises ``UserError``, before anything is measured that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); choose another folder") from error


def _accelerator(accelerator: type, device: str, precision: str) -> Any:
    """Set up device and precision. Raises ``UserError`` for a device that this machine does not have."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        raise UserError(f"--device {device}: this machine has none, or this torch was built without it")
    try:
        return accelerator(cpu=device == "cpu", mixed_precision={"fp32": "no"}.get(precision, precision))
    except ValueError as error:
        raise UserError(f"--precision {precision}: {error}") from error


def _runs(plan: Plan, datasets: Sequence[str]) -> list[Run]:
    from zipeft.experiment import Run

    return [
        Run(dataset, name, method, seed) for dataset in datasets for name, method in plan.methods for seed in plan.seeds
    ]


def _measure_all(experiment: Experiment, runs: list[Run], options: argparse.Namespace) -> tuple[list, list[str]]:
    """Measure what has no result yet; return all results, and a line for each run or data set that failed."""
    from tqdm import tqdm

    results: list[Result] = []
    failures: list[str] = []
    bar_format = "{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total} runs [{elapsed}<{remaining}]"
    with tqdm(total=len(runs), bar_format=bar_format, dynamic_ncols=True) as bar:
        for dataset, of_dataset in groupby(runs, key=lambda run: run.dataset):
            bar.set_description_str(f"{dataset}: loading")
            try:
                experiment.prepare(dataset)
            except UserError as error:
                if not results:
                    raise  # nothing is lost by ending here
                failures.append(f"{dataset}: {error}")
                bar.update(len(list(of_dataset)))
                continue
            for name, of_method in groupby(of_dataset, key=lambda run: run.method_name):
                rows = _measure_seeds(experiment, list(of_method), options, bar, failures)
                bar.write(_row(dataset, name, rows), file=sys.stderr)
                results += rows
    if not results and len(failures) == len(runs):
        raise UserError(failures[0])
    return results, failures


def _measure_seeds(
    experiment: Experiment, runs: list[Run], options: argparse.Namespace, bar: Any, failures: list[str]
) -> list[Result]:
    """Measure the runs of one method on one data set; add a line to ``failures`` for each that fails."""
    results = []
    for run in runs:
        bar.set_description_str(f"{run.dataset} {run.method_name} seed {run.seed}")
        done = int(bar.n + 0.5)
        try:
            results.append(_measure(experiment, run, options, lambda steps: bar.update(1 / steps)))
        except UserError as error:
            failures.append(f"{run.dataset}, {run.method_name}, seed {run.seed}: {error}")
        bar.update(done + 1 - bar.n)
    return results


def _measure(experiment: Experiment, run: Run, options: argparse.Namespace, on_step: Any) -> Result:
    """Return a run's result, from its file if there is one."""
    from zipeft.adapter import save_adapter
    from zipeft.results import find, save_result

    known = None if options.redo else find(options.results, experiment.run_id(run))
    if known is not None and not options.save_adapters:
        return known
    result, learner = experiment.measure(run, on_step)
    save_result(options.results, result)
    if options.save_adapters:
        folder = options.save_adapters / run.dataset / f"{run.method_name}-seed{run.seed}"
        save_adapter(folder, learner, experiment.adapter_record(run))
    return result


def _row(dataset: str, method: str, results: Sequence[Result]) -> str:
    """One line on a method whose seeds are all done."""
    if not results:
        return f"  {dataset:12} {method:18} failed"
    mean = sum(result.score for result in results) / len(results)
    return f"  {dataset:12} {method:18} {100 * mean:5.1f} (test, mean of {len(results)})"


if __name__ == "__main__":
    sys.exit(main())
