"""What has to hold of results before a board takes them in: each record by itself, and all of a board together.

A hash in a file shows that it was edited, not who edited it: whoever makes it anew is found where the content then
contradicts itself, or other records of the same data. The last word has ``zipeft reproduce``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from zipeft import registry
from zipeft.api.protocol import TrainingProtocol
from zipeft.api.search import best
from zipeft.errors import UserError
from zipeft.formatting import listing
from zipeft.leaderboard.labels import method_key
from zipeft.leaderboard.ranking import LEAST_SEEDS
from zipeft.leaderboard.sections import grouped
from zipeft.results import RESULT_VERSION, Failure, Place, Record, Result, Trained, Trial, conditions_key
from zipeft.results.differences import unequal
from zipeft.results.environment import is_known_commit
from zipeft.results.identity import canonical, digest

CORE = ("python", "accelerate", "numpy", "peft", "torch", "transformers", "zipeft")
"""Packages of which every record has a version."""


def faults(
    records: Mapping[Place, Record], others: Iterable[Result] = (), own_protocol: bool = False
) -> Iterator[tuple[Place, str]]:
    """Yield each place whose record is refused, with one line of why.

    ``others`` are results that are published already. ``own_protocol`` allows protocols that are of no preset.
    """
    checks: list[Callable[[Record], Iterator[str]]] = [_provenance, _versions, _content]
    for place, record in records.items():
        for check in checks if own_protocol else [*checks, _protocol]:
            yield from ((place, fault) for fault in check(record))
    yield from _one_lock(records)
    yield from _targets(records, others)
    runs = {place: record for place, record in records.items() if isinstance(record, Result)}
    yield from _seeds(runs, own_protocol)
    yield from _searches(runs, {record.id: record for record in records.values() if not isinstance(record, Result)})


# One record by itself.


def _provenance(record: Record) -> Iterator[str]:
    used = record.environment
    if record.version != RESULT_VERSION:
        yield f"version is {record.version}: this zipeft makes results of version {RESULT_VERSION}; run it again"
    if not re.fullmatch("[0-9a-f]{40}", used.commit):
        yield "environment.commit is none: run it from a checkout of zipeft, so that its code is known"
    elif not is_known_commit(used.commit):
        yield f"environment.commit {used.commit[:10]} is not in this checkout of zipeft: run it from a published commit"
    if used.dirty:
        yield f"environment.dirty is true: its code differed from commit {used.commit[:10]}; commit, and run it again"


def _versions(record: Record) -> Iterator[str]:
    """Yield what is wrong with the versions of packages: one is unknown, or none that this zipeft goes with."""
    found = record.environment.versions
    for name in CORE:
        if name not in found:
            yield f"environment.versions has no {name}"
    needed = {each.name: each.specifier for each in map(Requirement, metadata.requires("zipeft") or ())}
    for name, version in sorted(found.items()):
        try:
            parsed = Version(version)
        except InvalidVersion:
            yield f"environment.versions.{name} is {version!r}, which is no version"
            continue
        if name in needed and not needed[name].contains(parsed, prereleases=True):
            yield f"environment.versions.{name} is {version}; zipeft needs {name}{needed[name]}"
        if name == "zipeft" and parsed > Version(metadata.version("zipeft")):
            yield f"environment.versions.zipeft is {version}, which is not known here: update zipeft"


def _protocol(record: Record) -> Iterator[str]:
    """Yield what differs from the preset that the record names."""
    name = str(record.protocol["preset"])
    try:
        task = registry.tasks.get(record.task.name)
    except UserError as error:
        yield f"its protocol cannot be checked: {error}"
        return
    if name not in task.presets:
        yield f"protocol.preset is {name}, which {record.task.name} has not ({', '.join(task.presets)})"
        return
    protocol = TrainingProtocol(preset=name, **task.presets[name].protocol)
    trial = isinstance(record, Trial) or (isinstance(record, Failure) and record.of == Trial.kind)
    for field, values in unequal(record.protocol, protocol.of_trial() if trial else protocol.of_run()).items():
        yield f"protocol.{field} is not that of the preset {name} ({values}): run the preset as it is"


def _content(record: Record) -> Iterator[str]:
    """Yield where a record contradicts itself."""
    if not isinstance(record, Trained):
        return
    metric = record.task.metric
    if record.history:
        by_epoch = {epoch.epoch: epoch.validation for epoch in record.history}
        if by_epoch[record.selected_epoch] != record.validation:
            yield f"validation is not that of epoch {record.selected_epoch} in history"
        _, right = max((epoch.validation.get(metric, -1.0), epoch.epoch) for epoch in record.history)
        if right != record.selected_epoch:
            yield f"selected_epoch is {record.selected_epoch}; the best on validation, the later of ties, is {right}"
    if isinstance(record, Result) and metric == "accuracy" and record.item_scores:
        pairs = zip(record.predictions, record.targets, record.item_scores, strict=True)
        wrong = sum(float(predicted == target) != score for predicted, target, score in pairs)
        if wrong:
            yield f"item_scores contradict predictions and targets in {wrong} of {len(record.item_scores)} examples"


# All of a board together.


def _one_lock(records: Mapping[Place, Record]) -> Iterator[tuple[Place, str]]:
    """Yield records that were made with other versions of packages than the first of their board."""
    first: dict[str, Record] = {}
    for place, record in records.items():
        other = first.setdefault(conditions_key(record), record)
        found = unequal(other.environment.versions, record.environment.versions)
        for name, values in found.items():
            yield place, f"environment.versions.{name} is not that of {other.id} ({values}): run a board with one set"


def _targets(records: Mapping[Place, Record], others: Iterable[Result]) -> Iterator[tuple[Place, str]]:
    """Yield records whose right answers are not those of others on the same data."""
    first: dict[str, tuple[str, str]] = {}
    for result in (*others, *(record for record in records.values() if isinstance(record, Result))):
        first.setdefault(_data(result), (digest(result.targets), result.id))
    for place, record in records.items():
        if isinstance(record, Result):
            right, id = first[_data(record)]
            if digest(record.targets) != right:
                yield place, f"targets are not those of {id}, which has the same data"


def _data(result: Result) -> str:
    return canonical([result.task.name, result.task.dataset, result.task.checksum, result.task.settings])


def _seeds(runs: Mapping[Place, Result], own_protocol: bool) -> Iterator[tuple[Place, str]]:
    """Yield a run of each row that lacks seeds, which others of its data set have or the preset asks for."""
    for board in _grouped(runs, lambda result: result.comparability):
        every = {result.seed for result in board.values()}
        for row in _grouped(board, method_key):
            place, first = next(iter(row.items()))
            seeds = {result.seed for result in row.values()}
            what = f"{first.method.name} on {first.task.dataset}"
            if lacking := every - seeds:
                yield place, f"{what} lacks {_listed('seed', lacking)}, which others of its table have"
            elif len(seeds) < (least := _least_seeds(first, own_protocol)):
                yield place, f"{what} has {_listed('seed', seeds)} alone; {least} seeds are needed"


def _least_seeds(result: Result, own_protocol: bool) -> int:
    if own_protocol:
        return LEAST_SEEDS
    try:
        preset = registry.tasks.get(result.task.name).presets.get(str(result.protocol["preset"]))
    except UserError:  # the check of the protocol says so
        preset = None
    return max(LEAST_SEEDS, preset.seeds if preset else 0)


def _searches(runs: Mapping[Place, Result], trials: Mapping[str, Record]) -> Iterator[tuple[Place, str]]:
    """Yield runs whose search is not whole, is not on record as they say, or chose something else."""
    for place, run in runs.items():
        expected = run.protocol.get("trials", 0) if run.method.space else 0
        if len(run.search) != expected:
            yield place, f"search has {len(run.search)} trials; its protocol has {expected}"
            continue
        for index, tried in enumerate(run.search):
            found = trials.get(tried.id)
            score = found.validation.get(run.task.metric) if isinstance(found, Trial) else None
            settings = {name: found.method.settings.get(name) for name in tried.settings} if found else {}
            if found is None:
                yield place, f"search[{index}] is the trial {tried.id}, whose record is missing"
            elif (score, settings) != (tried.validation, tried.settings):
                yield place, f"search[{index}] is not what the record of the trial {tried.id} says"
        chosen = best([tried.validation for tried in run.search])
        if chosen is not None and any(
            run.method.settings.get(name) != value for name, value in run.search[chosen].settings.items()
        ):
            yield place, f"method.settings are not those of its best trial, search[{chosen}]"


def _grouped(runs: Mapping[Place, Result], key: Callable[[Result], str]) -> list[dict[Place, Result]]:
    places = {id(result): place for place, result in runs.items()}
    return [{places[id(result)]: result for result in group} for group in grouped(runs.values(), key).values()]


def _listed(noun: str, seeds: Iterable[int]) -> str:
    found: Sequence[str] = [str(seed) for seed in sorted(seeds)]
    return f"{noun if len(found) == 1 else f'{noun}s'} {listing(found)}"
