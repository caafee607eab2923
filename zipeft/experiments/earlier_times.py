"""What earlier trainings took that were like those of an experiment, by the records in a store."""

from __future__ import annotations

from zipeft.experiments.experiment import Experiment
from zipeft.experiments.time_left import Kind, TimeLeft
from zipeft.results import Result, Store, Trial

MOST = 4
"""Records of each kind that are read: more would say little more, and a store may hold thousands."""


def remember(estimate: TimeLeft, experiment: Experiment, store: Store) -> list[Kind]:
    """Tell an estimate what earlier trainings took; return the kinds of which any are on record."""
    found: list[Kind] = []
    methods = {each.label: each.name for each in experiment.comparison.contenders}
    for kind in experiment.comparison.kinds():
        if seconds := _seconds(experiment, (*kind[:3], methods[kind[3]]), store):
            estimate.remember(kind, seconds)
            found.append(kind)
    return found


def _seconds(experiment: Experiment, kind: Kind, store: Store) -> list[float]:
    records = [record for cls in (Result, Trial) for record in store.newest(cls, *kind, MOST)]
    costs = [record.cost for record in records if experiment.describer.lasts_as_long_as(record)]
    return [cost.train_seconds + cost.frozen_prefix_seconds + cost.evaluation_seconds for cost in costs]
