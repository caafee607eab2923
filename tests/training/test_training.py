"""The training loop: what it selects, what it refuses, and that it sees no test data."""

from __future__ import annotations

import math
from operator import mul
from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from support.toys import ToyTask, ToyViT
from zipeft import registry
from zipeft.api.data import Window
from zipeft.api.learner import Learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.training.batches import shuffled_batches
from zipeft.training.dataset import encode
from zipeft.training.loop import Trainer, total_steps
from zipeft.training.readers import Readers
from zipeft.training.training_log import Best

LINEAR = registry.methods.get("linear")()


def learner():
    torch.manual_seed(0)
    backbone = ToyViT()
    model = backbone.build().requires_grad_(False)
    return Learner(backbone, model, torch.nn.Linear(32, 3))


def encoded(name="train", task=None):
    task = task or ToyTask()
    return encode(getattr(task.load("colours"), name), task.windows(ToyViT()), ToyViT())


def trainer(task=None, **protocol):
    return Trainer(
        task or ToyTask(), TrainingProtocol(**{"epochs": 3, "batch_size": 8, **protocol}), Accelerator(cpu=True)
    )


def test_the_learner_is_left_as_it_was_after_the_best_epoch():
    training, trained = trainer(epochs=6), learner()
    log = training.fit(trained, LINEAR, encoded(), encoded("validation"), seed=0)
    scores = [epoch.validation["accuracy"] for epoch in log.history]
    last_best = max(index for index, score in enumerate(scores, 1) if score == max(scores))
    assert log.selected_epoch == last_best
    assert training.evaluator.validate(trained, encoded("validation"))["accuracy"] == max(scores)


@pytest.mark.parametrize(("batch_size", "parts"), [(2, 10), (8, 6)])
def test_an_epoch_has_the_losses_of_its_parts(batch_size, parts):
    log = trainer(epochs=2, batch_size=batch_size).fit(learner(), LINEAR, encoded(), encoded("validation"), seed=0)
    steps = 48 // batch_size
    for epoch in log.history:
        assert len(epoch.losses) == parts
        sizes = [steps // parts + (part < steps % parts) for part in range(parts)]
        assert sum(map(mul, epoch.losses, sizes)) / steps == pytest.approx(epoch.train_loss, rel=1e-5)


def test_best_keeps_the_later_of_ties_and_restores_what_was_then():
    best, trained = Best("accuracy"), learner()
    for epoch, score in enumerate([0.1, 0.5, 0.5, 0.4], 1):
        with torch.no_grad():
            trained.head.bias.fill_(epoch)
        best.keep(epoch, {"accuracy": score}, trained)
    best.restore(trained)
    assert best.epoch == 3
    assert trained.head.bias.tolist() == [3, 3, 3]


class Undecided(ToyTask):
    """A task whose predictions wait for a threshold; the one that validation data give is the number of the choice."""

    chosen: ClassVar[list] = []
    used: ClassVar[list] = []

    def choose(self, predictions, targets):
        self.chosen.append({"threshold": len(self.chosen) + 1.0})
        return self.chosen[-1]

    def decide(self, predictions, chosen):
        self.used.append(dict(chosen))
        return predictions


def test_what_is_chosen_on_validation_data_is_that_of_the_best_epoch_and_decides_on_other_data(monkeypatch):
    monkeypatch.setattr(Undecided, "chosen", [])
    monkeypatch.setattr(Undecided, "used", [])
    training, trained = trainer(Undecided(), epochs=6), learner()
    # Scores fall from the third epoch on.
    falling = iter([0.1, 0.2, 0.3, 0.2, 0.1, 0.0, 0.5])
    monkeypatch.setattr(Undecided, "score", lambda self, predictions, targets: {"accuracy": next(falling)})
    log = training.fit(trained, LINEAR, encoded(), encoded("validation"), seed=0)
    assert log.selected_epoch == 3
    assert [epoch.validation["threshold"] for epoch in log.history] == [1, 2, 3, 4, 5, 6]
    scores, _ = training.evaluator.test(trained, encoded("train"))
    assert scores == {"accuracy": 0.5}
    assert Undecided.used[-1] == {"threshold": 3}
    assert len(Undecided.chosen) == 6


def test_a_loss_that_is_not_finite_ends_the_run_with_advice():
    class Diverging(ToyTask):
        def loss(self, outputs, targets):
            return super().loss(outputs, targets) * math.nan

    with pytest.raises(UserError, match="training loss is nan in epoch 1; lower the learning rate"):
        trainer(Diverging()).fit(learner(), LINEAR, encoded(), encoded("validation"), seed=0)


@pytest.mark.parametrize(("max_steps", "expected"), [(0, 18), (2, 2), (100, 18)])
def test_steps_are_epochs_times_batches_unless_limited(max_steps, expected):
    steps = []
    log = trainer(max_steps=max_steps).fit(
        learner(), LINEAR, encoded(), encoded("validation"), seed=0, on_step=steps.append
    )
    assert log.steps == len(steps) == expected == total_steps(6, TrainingProtocol(epochs=3, max_steps=max_steps))
    assert set(steps) == {expected}
    assert log.examples == 8 * expected


def test_the_order_of_examples_is_that_of_pytorch_s_own_shuffling_in_every_epoch():
    data = encoded()
    own = DataLoader(data, 7, shuffle=True, generator=torch.Generator().manual_seed(3))
    shuffled = shuffled_batches(data, 7, seed=3)
    for _epoch in range(3):
        for (batch,), expected in zip(shuffled, own, strict=True):
            assert torch.equal(batch.content["inputs"], expected["inputs"])
    assert shuffled.sampler.weights() == [1.0] * 7


def test_examples_that_do_not_fit_in_memory_are_encoded_when_they_are_needed(monkeypatch):
    calls = []

    def windows(image, target):
        calls.append(1)
        return [Window(image, target)]

    split = ToyTask().load("colours").train
    kept = encode(split, windows, ToyViT())
    assert len(calls) == 48 + 1
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: False)
    calls.clear()
    lazy = encode(split, windows, ToyViT(), Readers(workers=0))  # this process counts
    batches = [list(shuffled_batches(data, 8, seed=3)) for data in (kept, lazy)]
    assert all(torch.equal(a.content["inputs"], b.content["inputs"]) for (a,), (b,) in zip(*batches, strict=True))
    assert len(calls) == 48 + 1
