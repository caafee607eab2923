"""``zipeft reproduce``: do one training again from its record, and say whether it gives the same."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zipeft.api.settings import parse_assignments
from zipeft.commands.common import ArgumentParser, command_parser, exit_status, positive_int
from zipeft.commands.devices import accelerator
from zipeft.errors import UserError, printable
from zipeft.formatting import duration, percent, score_text, shortened

if TYPE_CHECKING:
    from zipeft.experiments.comparison import Run
    from zipeft.experiments.experiment import Experiment
    from zipeft.experiments.rebuilding import Places
    from zipeft.experiments.reproduction import Reproduction
    from zipeft.results import Place, Result, Trained

NOT_REPRODUCED = 1

MOST_SHOWN = 12
"""Differences that are listed one by one."""

EXAMPLES = """\
examples:
  zipeft reproduce 1266777a
      run again the record in leaderboards/results whose id begins so
  zipeft reproduce 1266777a --dry-run
      say what that would run, and what differs here from where the record was made
  zipeft reproduce 0bbd5990 --results results
      a record of a folder of your own
  zipeft reproduce results/vit-fgvc/icons.jsonl:12
      a line of an archive; or a file, results/vit-fgvc/icons/linear-seed0-....json
  zipeft reproduce 5d0c2a11 --data-dir ~/data --checkpoint vit_base_patch16_224:~/weights.npz
      a record says what data and weights were by their checksums, not where they lay

The exit status is 0 if all is equal to the last digit, or, on other software or another machine, the score lies within
the interval of its row; 1 if not, or if the same training cannot be rebuilt here; and 2 if there is no such record, or
its plug-in, weights or data are missing.
"""


@exit_status
def main(argv: Sequence[str] | None = None) -> int:
    """Reproduce a record, say what came of it, and return the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    from zipeft.results import Store, Trained
    from zipeft.results.lookup import look_up

    place, record = look_up(options.record, options.results)
    from zipeft.experiments.rebuilding import execution_of, rebuild

    try:
        comparison, run = rebuild(record, _places(options))
        execution = execution_of(record)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    assert isinstance(record, Trained)  # or it would not have been rebuilt
    _use_threads(options.threads or record.cost.threads or record.environment.cores)
    device = options.device or record.environment.device.partition(":")[0]
    from zipeft.experiments.experiment import Experiment

    command = shlex.join(["zipeft", "reproduce", *arguments])
    on_device = accelerator(device, comparison.protocol.precision)
    experiment = Experiment(comparison, on_device, command, execution=execution)
    _print([f"record {record.id}, {place}: {_named(record)}", *_how(record, experiment, run)])
    if options.dry_run:
        return _foresee(record, experiment, run)
    experiment.prepare(run.dataset)
    if not _same_identity(record, experiment, run):
        return NOT_REPRODUCED
    reproduction = _again(record, experiment, run, _mates(record, place, options.results))
    if options.keep:
        print(f"wrote {Store(options.keep).save(reproduction.now)}")
    _print(_said(reproduction))
    from zipeft.experiments.reproduction import Verdict

    return NOT_REPRODUCED if reproduction.verdict is Verdict.DIFFERS else 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "zipeft reproduce",
        "Run one row of a board again from its record alone, and say whether it gives the same.",
        EXAMPLES,
    )
    parser.add_argument("record", metavar="RECORD", help="the beginning of an id, a file, or ARCHIVE.jsonl:LINE")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("leaderboards/results"),
        metavar="DIR",
        help="where the id, and other seeds of its row, are looked up (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="train nothing, download nothing: say what would be run")
    parser.add_argument("--checkpoint", metavar="NAME", help="where weights lie that were a file of somebody's")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where data lie that were a folder of somebody's")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="backbone.SETTING=VALUE",
        help="another setting that names weights, such as backbone.language of vlm, repeatable",
    )
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), help="(default: the record's)")
    parser.add_argument("--threads", type=positive_int, metavar="N", help="torch's, on a CPU (default: the record's)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the new record there")
    return parser


def _places(options: argparse.Namespace) -> Places:
    from zipeft.experiments.rebuilding import Places

    assigned = parse_assignments(options.set)
    if unknown := assigned.keys() - {"backbone"}:
        raise UserError(f"--set {min(unknown)}...: all but the names of weights, backbone.SETTING, is on record")
    weights = assigned.get("backbone", {})
    if options.checkpoint:
        if "checkpoint" in weights:
            raise UserError("backbone.checkpoint is set twice; keep one")
        weights["checkpoint"] = options.checkpoint
    return Places(weights, options.data_dir)


def _use_threads(number: int) -> None:
    """Sums over other parts, as other numbers of threads make them, are rounded otherwise."""
    import torch

    torch.set_num_threads(number)


# Before it is run.


def _named(record: Trained) -> str:
    which = f"seed {record.seed}" if record.kind == "run" else f"trial {int(record.which.removeprefix('trial')) + 1}"
    return f"{record.backbone.name} on {record.task.name}, {record.task.dataset}, {record.method.name}, {which}"


def _how(record: Trained, experiment: Experiment, run: Run) -> Iterator[str]:
    from zipeft.api.settings import as_json
    from zipeft.results.differences import brief

    def spoken(settings: dict[str, object]) -> str:
        return ", ".join(f"{name} {brief(value)}" for name, value in settings.items())

    yield f"  method:   {spoken(as_json(run.contender.method))}"
    protocol = experiment.comparison.protocol
    yield f"  protocol: {spoken(protocol.of_run() if run.trial is None else protocol.of_trial())}"
    took = record.cost.train_seconds + record.cost.frozen_prefix_seconds + record.cost.evaluation_seconds
    yield f"  took {duration(took)} on {record.environment.device} ({record.environment.cpu}), {record.created}"


def _foresee(record: Trained, experiment: Experiment, run: Run) -> int:
    """Say without weights whether the record's id comes out here, and what surrounds it; return the exit status."""
    from dataclasses import replace

    from zipeft.experiments.dry_run import Foreseen, offline
    from zipeft.experiments.reproduction import Reproduction
    from zipeft.results import current_environment
    from zipeft.sources.package_archive import NotAtHand

    with offline():
        foreseen = Foreseen(experiment.comparison, experiment.accelerator, experiment.describer.command)
        try:
            same = _same_identity(record, foreseen, run)
        except NotAtHand as error:
            print(f"  id: not known before {error.archive.label} is downloaded")
            same = True
    environment = current_environment("", str(experiment.accelerator.device), record.environment.execution)
    here = replace(record, environment=environment)
    _print(_surrounded(Reproduction(record, here)))
    return 0 if same else NOT_REPRODUCED


def _same_identity(record: Trained, experiment: Experiment, run: Run) -> bool:
    """Say whether the rebuilt training has the record's id and, where it has not, what decides it otherwise."""
    from zipeft.experiments.rebuilding import changes

    found = changes(record, experiment.describer, run)
    if not found:
        print(f"  id:       rebuilt, {experiment.id(run)}")
        return True
    print(f"  id:       another one here, {experiment.id(run)}: this is not the same training (record / here):")
    _print(f"    {name} {values}" for name, values in found.items())
    return False


def _mates(record: Trained, place: Place, root: Path) -> list[Result]:
    """Return the runs of the record's method and data set in its store and beside it."""
    from zipeft.experiments.plan import MOST_SEEDS
    from zipeft.results import Result, Store
    from zipeft.results.archive import Line

    own = place.archive if isinstance(place, Line) else place.parent
    where = (record.backbone.name, record.task.name, record.task.dataset, record.method.name)
    stores = sorted({root.resolve(), own.resolve().parents[1]})
    return [found for store in stores for found in Store(store).newest(Result, *where, most=MOST_SEEDS)]


# After it.


def _again(record: Trained, experiment: Experiment, run: Run, results: list[Result]) -> Reproduction:
    from zipeft.experiments.reproduction import Reproduction, row_of
    from zipeft.results.record import checked

    now, _ = experiment.measure(run)
    return Reproduction(record, checked(now), row_of(record, results))


def _said(reproduction: Reproduction) -> Iterator[str]:
    from zipeft.experiments.reproduction import Verdict

    metric, then, now = reproduction.then.task.metric, reproduction.then, reproduction.now
    split = "test" if hasattr(then, "test") else "validation"
    scores = [score_text(metric, getattr(record, split)[metric]) for record in (then, now)]
    yield f"  {split} {metric}: {scores[0]} then, {scores[1]} now"
    yield from _listed("came out otherwise (then / now)", reproduction.outcome)
    if reproduction.loss_gap:
        yield f"  training losses differ by up to {reproduction.loss_gap:.0e} of their value"
    yield from _surrounded(reproduction)
    yield from _interval(reproduction)
    yield f"{reproduction.verdict.value}{_why(reproduction) if reproduction.verdict is Verdict.DIFFERS else ''}"


def _surrounded(reproduction: Reproduction) -> Iterator[str]:
    found = reproduction.surroundings
    yield from _listed("other surroundings (then / now)", found) if found else ["  the surroundings are the same"]


def _listed(title: str, found: dict[str, str]) -> Iterator[str]:
    if found:
        yield f"  {title}:"
        yield from (shortened(f"    {name} {values}") for name, values in list(found.items())[:MOST_SHOWN])
        if len(found) > MOST_SHOWN:
            yield f"    and {len(found) - MOST_SHOWN} more"


def _interval(reproduction: Reproduction) -> Iterator[str]:
    gap = reproduction.gap
    if gap is not None and reproduction.outcome and (interval := gap.interval()):
        half = percent((interval[1] - interval[0]) / 2)
        seeds = len(reproduction.row)
        by = f"{seeds} seeds of its row" if seeds > 1 else "the test examples, as its row has no other seed here"
        yield f"  difference {100 * gap.mean:+.2f} points; two runs differ by up to {half} in 95 % of cases, by {by}"


def _why(reproduction: Reproduction) -> str:
    if not reproduction.elsewhere:
        return ": software and machine are the same" + (
            ", zipeft's own code is not" if reproduction.surroundings else ""
        )
    if reproduction.gap is None or reproduction.gap.interval() is None:
        return ": nothing on record tells how much two runs differ"
    return ": the difference is larger than the interval"


def _print(lines: Sequence[str] | Iterator[str]) -> None:
    for line in lines:
        print(printable(line))


if __name__ == "__main__":
    sys.exit(main())
