"""What earlier trainings took that were like those of an experiment, by the records in a store."""

from __future__ import annotations

from collections.abc import Sequence

from zipeft.experiments.experiment import Experiment
from zipeft.experiments.plan import Contender
from zipeft.experiments.time_left import Kind, TimeLeft
from zipeft.results import Result, Store, Trial

MOST = 4
"""Records of each kind that are read: more would say little more, and a store may hold thousands."""


def remember(estimate: TimeLeft, experiment: Experiment, contenders: Sequence[Contender], store: Store) -> list[Kind]:
    """Tell an estimate what earlier trainings took; return the kinds of which any are on record."""
    found = []
    for dataset in experiment.task.datasets():
        for contender in contenders:
            kind = experiment.backbone_name, experiment.task_name, dataset, contender.name
            if seconds := _seconds(experiment, dataset, contender.name, store):
                estimate.remember(kind, seconds)
                found.append(kind)
    return found


def _seconds(experiment: Experiment, dataset: str, method: str, store: Store) -> list[float]:
    place = experiment.backbone_name, experiment.task_name, dataset, method
    records = [record for kind in (Result, Trial) for record in store.newest(kind, *place, MOST)]
    costs = [record.cost for record in records if experiment.lasts_as_long_as(record)]
    return [cost.train_seconds + cost.frozen_prefix_seconds + cost.evaluation_seconds for cost in costs]
