"""What a sweep does beside training grows with the number of trainings, and no faster: counted, not timed."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from support import experiments
from support.bookkeeping import experiment, sweep
from zipeft import files
from zipeft.experiments import description
from zipeft.experiments import experiment as experiment_module
from zipeft.experiments.sweep import Sweep
from zipeft.results import Store, archive, record
from zipeft.results.packing import pack

SIZES = (3, 6, 9)
SHAPES = {
    "seeds": lambda size: experiment(seeds=size),
    "trials": lambda size: experiment(seeds=1, trials=size),
    "methods": lambda size: experiment(seeds=1, methods=size),
}


@pytest.fixture
def counted(monkeypatch):
    """What was done: ids made, entries of folders listed, files opened, lines of archives read."""
    found = Counter()

    def count(owner, name, what, number=lambda result: 1):
        original = getattr(owner, name)

        def counting(*arguments, **options):
            result = original(*arguments, **options)
            found[what] += number(result)
            return result

        monkeypatch.setattr(owner, name, counting)

    count(description, "record_id", "ids")
    count(record, "record_id", "ids")
    count(os, "listdir", "entries", len)
    original = os.scandir

    def scandir(*arguments):
        found["entries"] += len(os.listdir(*arguments))
        return original(*arguments)

    monkeypatch.setattr(os, "scandir", scandir)
    count(files, "open_file", "opened")
    count(archive, "open_file", "opened")
    count(archive, "_head", "lines")
    count(Sweep, "_unfinished", "looks at studies")
    return found


def fresh(store: Store, shape) -> None:
    """Nothing is on record."""


def finished(store: Store, shape) -> None:
    """All is, in a file each."""
    sweep(store.root, shape)


def packed(store: Store, shape) -> None:
    """All is, in an archive that this process has not read."""
    finished(store, shape)
    assert len(list(pack(store))) == 1
    archive._index.cache_clear()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", [fresh, finished, packed])
def test_bookkeeping_grows_linearly(tmp_path, counted, before, shape):
    done = []
    for size in SIZES:
        store, planned = Store(tmp_path / str(size)), SHAPES[shape](size)
        before(store, planned)
        counted.clear()
        sweep(store.root, planned)
        done.append(Counter(counted))
    assert done[0]["ids"] > 0
    assert (done[0]["lines"] > 0) == (before is packed)
    for what in done[0]:
        small, middle, large = (each[what] for each in done)
        assert large - middle <= middle - small, what
        assert large - middle <= 8 * (SIZES[2] - SIZES[1]), what


def test_flops_are_counted_once_for_all_trials_and_seeds_of_a_setting(monkeypatch):
    found = []
    monkeypatch.setattr(experiment_module, "count_flops", lambda *_: found.append(len(found)) or (len(found), 1))
    comparison = experiments.experiment(epochs=1, batch_size=8, max_steps=1)
    costs = [
        comparison.measure(experiments.run("colours", "lora", seed, trial=trial, learning_rate=rate, rank=rank))[0].cost
        for seed, trial, rate, rank in ((7, 0, 1e-3, 2), (7, 1, 1e-2, 2), (0, None, 1e-2, 2), (1, None, 1e-2, 4))
    ]
    assert [cost.training_flops for cost in costs] == [1, 1, 1, 2]
