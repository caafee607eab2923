"""``python -m zipeft.run``: compare ways of fine-tuning a backbone on a task."""

from __future__ import annotations

import argparse
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from zipeft import locks
from zipeft.api.settings import path
from zipeft.commands import sweep_file
from zipeft.commands.common import ArgumentParser, command_parser, exit_status, whole
from zipeft.commands.devices import accelerator
from zipeft.commands.execution import add_execution_options, execution_of
from zipeft.commands.recipe_file import recipe_named
from zipeft.errors import UserError, printable
from zipeft.experiments import ray_local
from zipeft.experiments.comparison import Comparison
from zipeft.experiments.options import RunOptions
from zipeft.experiments.plan import make_plan
from zipeft.formatting import counted

if TYPE_CHECKING:
    from accelerate import Accelerator

    from zipeft.experiments.adapter_store import AdapterStore
    from zipeft.experiments.experiment import Experiment
    from zipeft.experiments.ray_executor import RayExecutor
    from zipeft.experiments.sweep import ResumePolicy, SweepReport
    from zipeft.training.execution import Execution

SOME_FAILED = 1

EXAMPLES = """\
examples:
  python -m zipeft.run --backbone vit --task fgvc
      compare the default methods on the embedded sets; results go to results/
  python -m zipeft.run --backbone vit --task fgvc --method all --trials 4 --seeds 3
      every method searches its settings in 4 trials on validation data, then runs from 3 seeds
  python -m zipeft.run --backbone vit --task fgvc --method zero_gated lora --seeds 5 --set zero_gated.length=50
      two methods, five seeds, longer prompts
  python -m zipeft.run --backbone vit --task fgvc --data-dir ~/data --checkpoint vit_base_patch16_224 --preset paper
      the published sets, from a folder, on a checkpoint from the hub
  python -m zipeft.run --backbone vit --task folder --data-dir ~/pictures
      your own labelled pictures, a folder a class
  python -m zipeft.run --backbone roberta --task glue squad
      text: the embedded sets of both tasks
  python -m zipeft.run --backbone roberta --checkpoint roberta-large --task squad --data-dir ~/squad --preset paper
      SQuAD from a folder with train-v1.1.json and dev-v1.1.json
  python -m zipeft.run --backbone vit --task fgvc --trials 4 --dry-run
      what that would run, on how many examples, how much of it is done, and how long the rest takes; --dry-run 3 times
      three steps of every method where no earlier training tells
  python -m zipeft.run --recipe llama-adapter --dry-run
      a published row: what it takes, from where its weights and data come, and the numbers to be met
  python -m zipeft.run --config sweep.toml
      a sweep from a file of these options: backbone = ["vit"], task = ["fgvc", "folder"], trials = 4, ...

`zipeft ls --verbose` lists backbones, tasks and methods with their settings and search spaces.
An interrupted comparison goes on where it stopped when the same command is given again, also by several processes.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison, print its table and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parse(arguments)
    plan = make_plan(options)
    if options.recipe and options.dry_run is not None:
        from zipeft.commands.recipe_outlook import outlook

        print(outlook(recipe_named(options.recipe), plan, options))
        if not options.data_dir:
            return 0
    for comparison in plan:
        comparison.datasets()  # before anything is loaded: it says what is wrong with the task's settings
    for folder in filter(None, (options.results, options.save_adapters) if options.dry_run is None else ()):
        _check_writable(folder)
    if options.dry_run is None:
        locks.check(options.results)
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    experiments = _experiments(plan, options, shlex.join(["python", "-m", "zipeft.run", *arguments]))
    if options.dry_run is not None:
        return _foresee(experiments, options)
    if not experiments[0].accelerator.is_main_process:
        from zipeft.experiments.local_executor import follow

        follow(experiments)
        return 0
    return _report(_sweep(experiments, options), options.results)


def _experiments(plan: Sequence[Comparison], options: RunOptions, command: str) -> list[Experiment]:
    from zipeft.experiments.experiment import Experiment
    from zipeft.experiments.loading import Loader
    from zipeft.results import Store

    precisions = {comparison.protocol.precision for comparison in plan}
    if len(precisions) > 1:
        raise UserError(f"the tasks' presets differ in precision ({', '.join(sorted(precisions))}): set --precision")
    # Where a cluster computes, this machine need not have its devices.
    own = accelerator("cpu", "fp32") if options.ray else accelerator(options.device, precisions.pop())
    execution = execution_of(options)
    if options.recipe and recipe_named(options.recipe).sharded:
        execution = _sharded(execution, options.recipe, own)
    execution.check(own.num_processes, own.mixed_precision, [comparison.backbone.plugin for comparison in plan])
    loader = Loader(execution.readers(own.device))
    checkpoint_of = Store(options.results).checkpoint
    return [Experiment(comparison, own, command, loader, execution, checkpoint_of) for comparison in plan]


def _sharded(execution: Execution, recipe: str, accelerator: Accelerator) -> Execution:
    """Return how a recipe that is meant to be sharded is carried out: whole, which is said, by a process alone."""
    if accelerator.num_processes > 1:
        return replace(execution, sharding=True)
    print(
        f"zipeft: {recipe} is meant to be sharded: torchrun does so; one process holds the whole model", file=sys.stderr
    )
    return execution


def _foresee(experiments: Sequence[Experiment], options: RunOptions) -> int:
    """Print what would be run; return the exit status."""
    from zipeft.experiments.dry_run import dry_run
    from zipeft.results import Store

    text, whole = dry_run(experiments, Store(options.results), _policy(options), options.dry_run or 0)
    if experiments[0].accelerator.is_main_process:
        print(text)
    return 0 if whole else SOME_FAILED


def _policy(options: RunOptions) -> ResumePolicy:
    from zipeft.experiments.adapter_store import AdapterStore
    from zipeft.experiments.sweep import ResumePolicy

    kept = [AdapterStore(options.save_adapters).has] if options.save_adapters else []
    return ResumePolicy(options.redo, options.retry_failed, *kept)


def _sweep(experiments: Sequence[Experiment], options: RunOptions) -> SweepReport:
    from zipeft.experiments.adapter_store import AdapterStore
    from zipeft.experiments.local_executor import LocalExecutor
    from zipeft.experiments.progress import ProgressBar
    from zipeft.experiments.sweep import Sweep
    from zipeft.results import Store

    adapters = AdapterStore(options.save_adapters) if options.save_adapters else None
    cluster = _cluster(experiments[0], options, adapters)  # before there is a bar that a refusal would spoil
    store = Store(options.results)
    bar = ProgressBar(experiments, store)
    executor = cluster or LocalExecutor(experiments, bar.step, adapters.keep if adapters else None)
    try:
        return Sweep(store, executor, _policy(options), bar).go(experiments)
    finally:
        executor.shutdown()
        bar.close()


def _cluster(experiment: Experiment, options: RunOptions, adapters: AdapterStore | None) -> RayExecutor | None:
    """Return the executor that --ray asks for, if it does."""
    if not options.ray:
        if options.ray_cpus is not None or options.ray_gpus is not None:
            raise UserError("--ray-cpus and --ray-gpus go with --ray")
        return None
    if experiment.accelerator.num_processes > 1:
        raise UserError("several processes that train together cannot share out a sweep as well: leave out --ray")
    if options.ray == "local":
        ray_local.close()
    from zipeft.experiments.ray_executor import RayExecutor

    on_device = partial(accelerator, precision=experiment.comparison.protocol.precision)
    return RayExecutor(options.ray, options.ray_cpus, options.ray_gpus, options.device, on_device, adapters)


def _report(report: SweepReport, folder: Path) -> int:
    """Print the tables and what failed; return the exit status."""
    from zipeft.leaderboard.tables import terminal_table

    if not report.results and not report.failures and not report.trials:
        raise UserError(report.broken[0])
    if report.trials:
        from zipeft.commands.validation_table import validation_table

        print(validation_table(report.trials))
    if report.results:
        print(terminal_table(report.results))
    if there := len(report.results) - len(report.lost):
        print(f"\n{counted(there, 'result')} in {folder}/; a page and plots:")
        print(f"  python -m zipeft.leaderboard {folder} --out {folder}")
    if report.lost:
        gone = f"{counted(len(report.lost), 'result')} of these no longer in {folder}/"
        print(f"zipeft: failed: {gone}: the same command makes them again", file=sys.stderr)
    for line in report.broken:
        print(printable(f"zipeft: failed: {line}"), file=sys.stderr)
    for failure in report.failures:
        what = f"{failure.task.dataset}, {failure.method.name}, {failure.of} of seed {failure.seed}"
        print(printable(f"zipeft: failed: {what}: {failure.reason}"), file=sys.stderr)
    if report.failures:
        print("zipeft: failures are on record and not tried again, unless with --retry-failed", file=sys.stderr)
    return SOME_FAILED if report.failures or report.broken or report.lost else 0


def _parse(arguments: Sequence[str]) -> RunOptions:
    """Return what a command line asks for; what a sweep file says holds where the command line is silent."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    printed = given.pop("print_config", False)
    config = given.pop("config", None)
    if recipe := given.get("recipe"):
        if config:
            raise UserError("--recipe and --config both name a sweep file: keep one")
        config = recipe_named(recipe).path
    if config:
        written = vars(parser.parse_args(sweep_file.read_arguments(config)))
        own = given.get("set", [])
        others = [each for each in written.get("set", []) if _target(each) not in map(_target, own)]
        given = {**written, **given, "set": [*others, *own]}
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    options = RunOptions(**values)
    for name in ("backbone", "task"):
        if not getattr(options, name):
            raise UserError(f"the following arguments are required: --{name} (see {parser.prog} --help)")
    if printed:
        print(sweep_file.written(options), end="")
        parser.exit()
    return options


def _target(assignment: str) -> str:
    return assignment.partition("=")[0].strip()


def _parser() -> ArgumentParser:
    parser = command_parser(
        "python -m zipeft.run",
        "Compare ways of fine-tuning a backbone on a task.",
        EXAMPLES,
        argument_default=argparse.SUPPRESS,  # the defaults are those of ``RunOptions``: a sweep file may say otherwise
    )
    what = parser.add_argument_group("what is compared")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "NAME"}
    what.add_argument("--backbone", **several, help="families of models, such as vit or roberta")
    what.add_argument("--checkpoint", metavar="NAME", help="which model of it (default: the embedded one)")
    what.add_argument("--no-pretrained", action="store_true", help="start from random weights")
    what.add_argument(
        "--task",
        **several,
        help="tasks, such as fgvc, or one set of one, such as glue/claims; each with all backbones that take it",
    )
    what.add_argument(
        "--data-dir", type=path, metavar="DIR", help="folder of the task's data (default: the embedded sets)"
    )
    what.add_argument("--method", **several, help="methods, or 'all' that run by default (default: the preset's)")
    what.add_argument(
        "--variant",
        action="append",
        metavar="NAME=METHOD:SETTING=VALUE,...",
        help="a method with settings of its own, a row beside others; without --method, variants alone; repeatable",
    )
    what.add_argument("--recipe", metavar="NAME", help="take these options from a recipe (zipeft recipes lists them)")
    what.add_argument("--config", type=path, metavar="FILE", help="take these options from a TOML or YAML file")
    what.add_argument("--print-config", action="store_true", help="print the options as a TOML file, and do no more")
    how = parser.add_argument_group("how")
    how.add_argument("--preset", metavar="NAME", help="quick (default), standard or paper")
    how.add_argument("--trials", metavar="N", help="settings that each method tries on validation data, 0 for none")
    how.add_argument("--seeds", metavar="N", help="how many seeds, or a list of them such as 0,1,7")
    how.add_argument("--epochs", metavar="N")
    how.add_argument("--batch-size", metavar="N")
    how.add_argument("--steps", metavar="N", help="stop each training after so many optimiser steps (0: never)")
    how.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"))
    how.add_argument("--precision", choices=("fp32", "bf16", "fp16"))
    add_execution_options(how)
    how.add_argument("--set", action="append", metavar="NAME.SETTING=VALUE", help="a setting of any part, repeatable")
    how.add_argument(
        "--validation-only", action="store_true", help="run the trials, show what they scored, and open no test data"
    )
    how.add_argument(
        "--dry-run",
        nargs="?",
        const=0,
        type=whole(),
        metavar="STEPS",
        help="train nothing, write no result, download nothing: say what would be run and how long it takes, by "
        "records or by so many timed steps of each method (default: none)",
    )
    where = parser.add_argument_group("where")
    where.add_argument("--results", type=path, metavar="DIR", help="(default: results)")
    where.add_argument("--redo", action="store_true", help="measure again what has a result already")
    where.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    where.add_argument("--save-adapters", type=path, metavar="DIR", help="keep what every run learnt")
    who = parser.add_argument_group("on a Ray cluster (pip install 'zipeft[ray]')")
    who.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="(default: the one that runs here); local starts one, which no other machine can reach. Whoever reaches "
        "another one can run code on it: start it with RAY_AUTH_MODE=token, or in a network of its own",
    )
    who.add_argument("--ray-cpus", type=int, metavar="N", help="CPUs of each training (default: up to 4)")
    who.add_argument("--ray-gpus", type=float, metavar="N", help="its GPUs, such as 0.5 (default: 1 if there are any)")
    return parser


def _check_writable(folder: Path) -> None:
    """Make a folder. Raises ``UserError``, before anything is measured that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}); choose another folder") from error


if __name__ == "__main__":
    sys.exit(main())
