"""Models and data sets that a process keeps: one of each, encoded, what a seed draws too."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from support import experiments
from support.toys import ToyTask, ToyViT
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.loading import Loader
from zipeft.training.dataset import EncodedSplit

CPU = torch.device("cpu")


@dataclass(frozen=True)
class ManySets(ToyTask):
    """The toy under several names; with ``drawn`` a seed takes two examples."""

    drawn: bool = False

    def load(self, dataset):
        draw = (lambda seed: ([seed, seed + 1], [seed])) if self.drawn else None
        return replace(super().load(dataset), draw=draw)


def test_a_data_set_that_is_loaded_next_takes_the_place_of_the_last_one():
    loader, task, backbone = Loader(), ManySets(), ToyViT()
    first = loader.dataset(task, "a", backbone)
    assert loader.dataset(ManySets(), "a", ToyViT()) is first
    gone = weakref.ref(first.encoded.train)
    del first
    loader.dataset(task, "b", backbone)
    gc.collect()
    assert gone() is None


def test_experiments_of_one_process_share_a_model_that_is_the_same():
    loader = Loader()
    comparisons = [experiments.comparison(task=ToyTask(examples=examples)) for examples in (24, 48)]
    accelerator = experiments.experiment().accelerator
    one, other = (Experiment(each, accelerator, "pytest", loader) for each in comparisons)
    frozen = one.frozen
    assert other.frozen is frozen
    assert experiments.experiment().frozen is not frozen


def test_a_model_that_is_loaded_next_takes_the_place_of_the_last_one():
    loader = Loader()
    gone = weakref.ref(loader.model(ToyViT(), CPU).model)
    assert not any(parameter.requires_grad for parameter in gone().parameters())
    loader.model(ToyViT(checkpoint="other"), CPU)
    gc.collect()
    assert gone() is None


def test_what_a_seed_draws_is_encoded_once_until_another_seed_draws():
    loaded = Loader().dataset(ManySets(drawn=True), "a", ToyViT())
    train, validation = loaded.draw(3)
    assert (train.split.names, validation.split.names) == (["0/3", "0/4"], ["1/3"])
    assert loaded.draw(3)[0] is train
    assert loaded.draw(4)[0] is not train
    assert loaded.targets(3) == [0, 1]


@dataclass(frozen=True)
class Pooled(ManySets):
    """The toy as a pool of 48, of which it counts the images that are encoded."""

    shots: int = 2
    encoded: ClassVar[list[int]] = []

    def load(self, dataset):
        return replace(super().load(dataset), draw=lambda seed: (range(seed, seed + self.shots), [seed]))

    def encoder(self, backbone):
        encode = super().encoder(backbone)
        return lambda image: self.encoded.append(1) or encode(image)


@pytest.mark.parametrize(("shots", "of_train"), [(2, 1 + 2), (6, 48)])
def test_of_a_large_pool_only_what_a_run_draws_is_encoded(shots, of_train, monkeypatch):
    monkeypatch.setattr(Pooled, "encoded", [])
    loaded = Loader().dataset(Pooled(shots=shots), "a", ToyViT())
    train, validation = loaded.draw(0)
    _ = train.inputs(range(shots)), validation.inputs([0])
    of_validation, of_test, to_know_sizes = 1 + 1, 48, 1
    # One example of each split that is encoded is made to know its size.
    assert len(Pooled.encoded) <= of_train + of_validation + of_test + 2 * to_know_sizes
    whole = Loader().dataset(ManySets(), "a", ToyViT()).encoded.train
    assert torch.equal(train.inputs(range(shots)), whole.inputs(range(shots)))


def test_all_is_taken_where_nothing_is_drawn_and_test_splits_hold_what_is_encoded():
    loaded = Loader().dataset(ManySets(), "a", ToyViT())
    assert loaded.draw(0) == loaded.draw(1) == (loaded.encoded.train, loaded.encoded.validation)
    assert loaded.targets(0) == list(loaded.data.train.targets)
    assert len(loaded.encoded.test) == len(loaded.data.test) == 48
    sealed = []
    loaded.encoded.test.map(lambda split: sealed.append(split) or split)
    assert isinstance(sealed[0], EncodedSplit)
