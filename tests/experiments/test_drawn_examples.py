"""Data of which each seed draws its own training examples, as few-shot learning has it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
import torch

from support import experiments
from support.experiments import run
from support.toys import ToyEncoder, ToyTask
from zipeft.api.data import Data, Split, Window
from zipeft.experiments.experiment import Experiment
from zipeft.methods.linear import Linear
from zipeft.methods.zero_gated import ZeroGated
from zipeft.training.dataset import encode

SHOTS = 2


def draw(seed: int) -> tuple[list[int], list[int]]:
    chosen = random.Random(seed)
    return [[label + 3 * chosen.randrange(16) for label in range(3) for _ in range(shots)] for shots in (SHOTS, 1)]


@dataclass(frozen=True)
class FewShots(ToyTask):
    """Colours, of which each seed sees two of a kind."""

    def load(self, dataset: str) -> Data:
        return replace(super().load(dataset), draw=draw)


def draw_alike_at_first(seed: int) -> tuple[list[int], list[int]]:
    """As many as ``draw``, of which more than a batch are the same for every seed."""
    train, validation = draw(seed)
    return [0, 1, 2, 3, 4, train[-1]], validation


def experiment(task: ToyTask) -> Experiment:
    return experiments.experiment(task=task, epochs=2, batch_size=4)


def taken(data: Data, seed: int) -> Data:
    """Return the data as if nothing else than what a seed draws had been there."""
    parts = {
        name: Split(*([values[index] for index in indices] for values in (own.examples, own.targets, own.names)))
        for name, own, indices in zip(("train", "validation"), (data.train, data.validation), draw(seed), strict=True)
    }
    return replace(data, **parts, draw=None)


@pytest.mark.parametrize("method", [Linear(), ZeroGated(length=2)])
@pytest.mark.parametrize("seed", [0, 3])
def test_a_run_is_that_on_what_its_seed_draws_and_nothing_else(method, seed):
    @dataclass(frozen=True)
    class Taken(ToyTask):
        def load(self, dataset):
            return taken(FewShots().load(dataset), seed)

    drawn, alone = (experiment(task).measure(run("colours", method, seed))[0] for task in (FewShots(), Taken()))
    assert (drawn.history, drawn.validation, drawn.test) == (alone.history, alone.validation, alone.test)
    assert drawn.predictions == alone.predictions


@pytest.mark.parametrize("drawing", [draw, draw_alike_at_first])
def test_seeds_that_share_a_data_set_do_not_share_a_trunk_s_output(drawing):
    """Two seeds, one after the other in one process, give what each gives in a process of its own."""

    class Drawing(FewShots):
        def load(self, dataset):
            return replace(super().load(dataset), draw=drawing)

    both = experiment(Drawing())
    runs = [run("colours", "linear", seed) for seed in (0, 1, 0)]
    together = [both.measure(run)[0] for run in runs]
    alone = [experiment(Drawing()).measure(run)[0] for run in runs]
    assert [r.history for r in together] == [r.history for r in alone]
    assert together[0].history == together[2].history != together[1].history


def test_operations_are_counted_on_what_each_seed_draws(monkeypatch):
    """Sentences that one seed draws may be longer than another's: seeds share no count as they do on the same data."""
    counted = []

    def count(*arguments):
        counted.append(arguments)
        return len(counted), 1

    monkeypatch.setattr("zipeft.experiments.experiment.count_flops", count)
    own = experiment(FewShots())
    costs = [own.measure(run("colours", "lora", seed))[0].cost for seed in (0, 0, 1)]
    assert [cost.training_flops for cost in costs] == [1, 1, 2]


def test_the_record_says_on_how_many_examples_a_run_trains():
    record, _ = experiment(FewShots()).measure(run("colours", "linear"))
    sizes = record.task.sizes
    assert (sizes.train, sizes.validation, sizes.test) == (3 * SHOTS, 3, 48)


@pytest.mark.parametrize("kept", [True, False])
def test_a_part_of_the_examples_has_its_windows_in_its_order(kept, monkeypatch):
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: kept)
    lengths = [5, 2, 9]

    def windows(length, target):
        parts = range(2) if kept else range(1)
        ids = torch.full((length,), length)
        return [Window({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, target, part) for part in parts]

    whole = encode(Split(lengths, [0, 1, 2], ["a", "b", "c"]), windows, ToyEncoder())
    part = whole.subset([2, 0])
    assert (list(part.split.examples), part.split.targets, part.split.names) == ([9, 5], [2, 0], ["c", "a"])
    found = [
        (len(window.inputs["input_ids"]), window.target, window.origin) for window in map(part.window, range(len(part)))
    ]
    parts = range(2) if kept else range(1)
    assert found == [(length, target, origin) for length, target in ((9, 2), (5, 0)) for origin in parts]
    by_example = [[window.origin for window in own] for own, _ in part.by_example(list(range(len(part))))]
    assert by_example == [list(parts), list(parts)]
    assert part.lengths == ([9, 9, 5, 5] if kept else None)
    assert len(whole) == 3 * len(parts)


def test_what_a_seed_draws_is_kept_where_all_of_it_would_not_fit(monkeypatch):
    everything = experiment(FewShots()).measure(run("colours", "linear"))[0]
    measured = experiment(FewShots())
    loaded = measured.loaded("colours")
    one = loaded.task.encoder(loaded.backbone)(loaded.data.train.examples[0]).nbytes
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: size <= 3 * SHOTS * one)
    part = measured.measure(run("colours", "linear"))[0]
    assert loaded.encoded.train.kept is None
    assert loaded.draw(0)[0].kept is not None
    assert (part.history, part.test) == (everything.history, everything.test)
