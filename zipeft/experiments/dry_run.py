"""``python -m zipeft.run --dry-run``: what would be run, how much of it is done, and how long the rest would take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from textwrap import fill
from typing import Any

from zipeft.api.settings import as_json
from zipeft.errors import UserError
from zipeft.experiments.comparison import Contender, Run
from zipeft.experiments.earlier_times import remember
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.sweep import ResumePolicy, Study
from zipeft.experiments.time_left import Kind, TimeLeft, all_known
from zipeft.formatting import DASH, counted, duration, listing, size, span
from zipeft.leaderboard.tables import tabulated, text_table
from zipeft.results import Store
from zipeft.results.differences import brief
from zipeft.sources import package_archive
from zipeft.training.loop import total_steps

OFFLINE = ("ZIPEFT_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
WIDTH = 44
"""Letters of a line of settings."""


class Foreseen(Experiment):
    """An experiment of which ids can be told before its weights are loaded."""

    def parameters(self) -> int:
        """Return 0: their number decides no id."""
        return 0

    @property
    def lacks_weights(self) -> bool:
        """Whether they would have to be downloaded."""
        source, checksum = self.describer.backbone.source, self.describer.backbone.checksum
        return not (checksum or source == "random") or not package_archive.is_at_hand(source)

    def short(self, steps: int) -> Foreseen:
        """Return the experiment with so many steps a training, on the same weights and data."""
        protocol = replace(self.comparison.protocol, epochs=1, max_steps=steps, trials=0)
        comparison = replace(self.comparison, protocol=protocol)
        return Foreseen(comparison, self.accelerator, self.describer.command, self.loader)


@dataclass
class Outlook:
    """What is found out of one comparison. ``done`` holds the trainings on record by kind, ``faults`` are data that
    could not be loaded, ``measured`` and ``on_record`` are the kinds of which the time is known, and how."""

    experiment: Foreseen
    lines: list[str] = field(default_factory=list)
    done: dict[Kind, int] = field(default_factory=dict)
    faults: int = 0
    measured: list[Kind] = field(default_factory=list)
    on_record: list[Kind] = field(default_factory=list)


def dry_run(experiments: Sequence[Experiment], store: Store, policy: ResumePolicy, steps: int) -> tuple[str, bool]:
    """Return what to print, and whether all data can be loaded. Nothing is downloaded and no result is written.

    With ``steps``, so many of each method are taken on each data set that is at hand, and timed.
    """
    estimate, outlooks = TimeLeft(), []
    with offline():
        for each in experiments:
            foreseen = Foreseen(each.comparison, each.accelerator, each.describer.command, each.loader)
            outlooks.append(_outlook(Outlook(foreseen), store, policy, estimate, steps))
    text = "\n\n".join([*(_shown(outlook, estimate) for outlook in outlooks), _summary(outlooks, estimate, steps)])
    return text, not any(outlook.faults for outlook in outlooks)


def _outlook(outlook: Outlook, store: Store, policy: ResumePolicy, estimate: TimeLeft, steps: int) -> Outlook:
    experiment, comparison = outlook.experiment, outlook.experiment.comparison
    outlook.lines = [_heading(experiment), _weights(experiment)]
    for kind in comparison.kinds():
        estimate.plan(kind, comparison.trainings)
    outlook.on_record = remember(estimate, experiment, store)
    for dataset in comparison.datasets():
        try:
            outlook.lines.append(f"  {dataset}: {_examples(experiment, dataset)}")
        except package_archive.NotAtHand as error:
            what = f"{error.archive.label} would be downloaded, {size(error.archive.size)}"
            outlook.lines.append(f"  {dataset}: not counted, as {what}")
            continue
        except UserError as error:
            outlook.lines.append(f"  {dataset}: cannot be loaded here: {error}")
            outlook.faults += 1
            continue
        for contender in comparison.contenders:
            study = Study(experiment, dataset, contender)
            study.look(store, policy)
            outlook.done[study.kind] = len(study.records)
            estimate.remain(study.kind, study.missing)
            if steps and study.missing and not experiment.lacks_weights:
                _time(outlook, study, steps, estimate)
    return outlook


def _time(outlook: Outlook, study: Study, steps: int, estimate: TimeLeft) -> None:
    """Time some steps of a method on a data set, and say so; what cannot train costs nothing but its own time."""
    what = f"{counted(steps, 'step')} of {study.contender.label} on {study.dataset}"
    print(f"zipeft: timing {what}", file=sys.stderr)
    try:
        estimate.remember(study.kind, [_timed(outlook.experiment, study.dataset, study.contender, steps)])
        outlook.measured.append(study.kind)
    except UserError as error:
        print(f"zipeft: not timed: {error}", file=sys.stderr)


def _timed(experiment: Foreseen, dataset: str, contender: Contender, steps: int) -> float:
    """Return the seconds that a training takes by the first of its steps: as a trial, which sees no test data."""
    protocol = experiment.comparison.protocol
    run = Run(dataset, replace(contender, space={}), protocol.search_seed, trial=0)
    cost = experiment.short(steps).measure(run)[0].cost
    counts = experiment.loaded(dataset).data.counts()
    every = total_steps(-(-counts[0] // protocol.batch_size), protocol)
    evaluations = (protocol.epochs if cost.steps else 1) + counts[2] / max(1, counts[1])
    train = cost.train_seconds / cost.steps * every if cost.steps else 0.0
    return train + cost.frozen_prefix_seconds + cost.evaluation_seconds * evaluations


# In words.


def _heading(experiment: Experiment) -> str:
    comparison, protocol = experiment.comparison, experiment.comparison.protocol
    limit = f", at most {counted(protocol.max_steps, 'step')}" if protocol.max_steps else ""
    return (
        f"{comparison.backbone.name} on {comparison.task.name}, {protocol.preset} preset: "
        f"{counted(protocol.epochs, 'epoch')} in batches of {protocol.batch_size}{limit}, {protocol.precision} on "
        f"{experiment.accelerator.device.type}; "
        + (f"{counted(protocol.trials, 'trial')} a method, then " if protocol.trials else "no search, ")
        + f"{'seed' if len(comparison.seeds) == 1 else 'seeds'} {listing(list(map(str, comparison.seeds)))}"
    )


def _weights(experiment: Foreseen) -> str:
    backbone = experiment.describer.backbone
    where = "would be downloaded" if experiment.lacks_weights else "at hand"
    return f"  weights: {backbone.checkpoint}, {backbone.source}, {where}"


def _examples(experiment: Experiment, dataset: str) -> str:
    data = experiment.loaded(dataset).data
    train, validation, test = data.counts()
    return f"{train} training, {validation} validation and {test} test examples; {data.source}"


def _shown(outlook: Outlook, estimate: TimeLeft) -> str:
    """Return the lines of a comparison, and a table of its methods."""
    rows = [_row(outlook, contender, estimate) for contender in outlook.experiment.comparison.contenders]
    headers = ["method", "settings", "searched", "trainings", "done", "time of one", "time left"]
    return "\n".join([*outlook.lines, tabulated(text_table(headers, rows, ""), "simple")])


def _row(outlook: Outlook, contender: Contender, estimate: TimeLeft) -> list[str]:
    comparison = outlook.experiment.comparison
    kinds = [kind for kind in comparison.kinds() if kind[-1] == contender.label]
    settings = {name: brief(value) for name, value in as_json(contender.method).items() if name not in contender.space}
    done = sum(outlook.done.get(kind, 0) for kind in kinds)
    times = all_known(map(estimate.seconds, kinds))
    left = sum(estimate.remaining(kind) * each for kind, each in zip(kinds, times, strict=True)) if times else 0.0
    return [
        contender.label,
        fill(", ".join(f"{name} {value}" for name, value in settings.items()), WIDTH) or DASH,
        fill("; ".join(f"{name} {dimension}" for name, dimension in contender.space.items()), WIDTH) or DASH,
        str(len(kinds) * comparison.trainings),
        str(done) if any(kind in outlook.done for kind in kinds) else "?",
        span(times, duration) if times else "?",
        duration(left) if times else "?",
    ]


def _summary(outlooks: Sequence[Outlook], estimate: TimeLeft, steps: int) -> str:
    """Return how much is left and how long it takes, and by what that is known."""
    said = f"{counted(estimate.trainings, 'training')}, {estimate.done} done already"
    left = estimate.left()
    if estimate.done == estimate.trainings:
        return f"{said}: nothing is left to do."
    if left is None:
        remedy = "--dry-run 3 times three steps of each"
        return f"{said}; how long the rest takes is not known, as nothing like them is on record: {remedy}."
    measured = {kind for outlook in outlooks for kind in outlook.measured}
    on_record = {kind for outlook in outlooks for kind in outlook.on_record} - measured
    every = {kind for outlook in outlooks for kind in outlook.experiment.comparison.kinds()}
    by = [f"{counted(steps, 'step')} of each"] if measured else []
    by += ["earlier trainings on record"] if on_record else []
    guessed = sorted({kind[-1] for kind in every - measured - on_record if estimate.remaining(kind)})
    said += f"; the rest takes about {duration(left)}, one after another, by {listing(by)}"
    return said + (f" (for {listing(guessed)}, in part or in all, by the mean of the others)." if guessed else ".")


@contextmanager
def offline() -> Iterator[None]:
    """Let nothing be downloaded; the hub's client reads that once, when it is imported."""
    before = {name: os.environ.get(name) for name in OFFLINE}
    os.environ.update(dict.fromkeys(OFFLINE, "1"))
    hub: Any = sys.modules.get("huggingface_hub.constants")
    known, online = (True, hub.HF_HUB_OFFLINE) if hub else (False, False)
    if known:
        hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if known:
            hub.HF_HUB_OFFLINE = online
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
