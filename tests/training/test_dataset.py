"""Examples on their way to batches: windows, buckets of lengths, padding, and the way back to one prediction each."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from support.toys import ToyEncoder, ToyTexts
from zipeft import registry
from zipeft.api.data import Split, Window
from zipeft.api.learner import Learner
from zipeft.api.protocol import TrainingProtocol
from zipeft.errors import UserError
from zipeft.training.batches import ordered_batches, shuffled_batches
from zipeft.training.dataset import encode
from zipeft.training.evaluation import Evaluator
from zipeft.training.loop import Trainer
from zipeft.training.parallel import Shard

BACKBONE = ToyEncoder()


def encoded(lengths, windows=1):
    """Examples of given lengths, each in so many windows; the first token of a window is its example's number."""

    def cut(example, target):
        inputs = {"input_ids": torch.full((example,), target), "attention_mask": torch.ones(example, dtype=torch.long)}
        return [Window(inputs, target * 10 + part, part) for part in range(windows)]

    return encode(Split(lengths, list(range(len(lengths))), list(map(str, lengths))), cut, BACKBONE)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=70), st.integers(1, 8), st.integers(0, 3))
def test_an_epoch_of_buckets_holds_every_window_once_in_batches_of_one_size(lengths, size, seed):
    data = encoded(lengths)
    loader = shuffled_batches(data, size, seed)
    for _epoch in range(2):
        batches = [batch.content["targets"].tolist() for (batch,) in loader]
        assert sorted(chain(*batches)) == [10 * index for index in range(len(lengths))]
        assert {len(batch) for batch in batches[:-1]} <= {size}


def test_buckets_hold_examples_of_like_length_in_another_order_each_epoch():
    lengths = torch.randint(1, 60, (640,), generator=torch.Generator().manual_seed(0)).tolist()
    loader = shuffled_batches(encoded(lengths), 16, seed=0)
    epochs = [[batch.content["inputs"]["input_ids"].shape[1] for (batch,) in loader] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])
    assert 16 * sum(epochs[0]) < 1.2 * sum(lengths)  # without buckets it is nearly twice as many
    assert [batch.content["targets"].tolist() for (batch,) in shuffled_batches(encoded(lengths), 16, seed=0)] == [
        batch.content["targets"].tolist() for (batch,) in shuffled_batches(encoded(lengths), 16, seed=0)
    ]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_buckets(processes):
    lengths = [1 + index % 7 for index in range(44)]
    whole = [batch.content["targets"].tolist() for (batch,) in shuffled_batches(encoded(lengths), 8, seed=1)]
    shares = [shuffled_batches(encoded(lengths), 8, 1, Shard(process, processes)) for process in range(processes)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted(chain(*(part.content["targets"].tolist() for (part,) in parts)))


def test_reading_batches_in_order_draws_no_random_number():
    data, before = encoded([3, 1, 2]), torch.random.get_rng_state()
    assert len(list(ordered_batches(data, 2))) == 2
    assert torch.equal(torch.random.get_rng_state(), before)


def test_batches_are_padded_to_their_longest_and_labels_with_what_no_loss_counts():
    data = encode(
        Split([2, 3], [0, 1], ["a", "b"]),
        lambda length, _: [
            Window({"input_ids": torch.ones(length, dtype=torch.long)}, torch.ones(length, dtype=torch.long))
        ],
        BACKBONE,
    )
    batch = data.batch([0, 1])
    assert batch["inputs"]["input_ids"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["targets"].tolist() == [[1, 1, -100], [1, 1, 1]]


def test_some_windows_of_an_example_can_be_taken_at_once():
    data = encoded([4, 2], windows=3)
    *_, (windows, _) = data.by_example(range(len(data)))
    assert [window.origin for window in windows[1:]] == [1, 2]
    assert windows[-1].target == windows[1:][-1].target == 12


def test_windows_that_would_be_lost_for_lack_of_memory_are_an_error(monkeypatch):
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: False)
    data = encode(
        Split([1, 2], [0, 0], ["a", "b"]),
        lambda parts, _: [Window({"input_ids": torch.ones(3)}, 0)] * parts,
        BACKBONE,
    )
    assert data.window(0).target == 0
    with pytest.raises(UserError, match="several windows do not fit in memory"):
        data.window(1)


class Voting(ToyTexts):
    """Counts the tokens of each window, and merges the windows of an example to a list."""

    def predict(self, outputs):
        return outputs[:, 0].round().int().tolist()

    def merge(self, windows, predictions):
        assert [window.origin for window in windows] == list(range(len(windows)))
        return predictions

    def score(self, predictions, targets):
        return {"accuracy": 1.0}


class Echo(Learner):
    def forward(self, inputs=None, trunk_output=None):
        return inputs["input_ids"][:, :1].float()


@pytest.mark.parametrize(("windows", "kept"), [(1, True), (1, False), (3, True)])
def test_predictions_come_back_in_order_one_an_example_from_all_its_windows(windows, kept, monkeypatch):
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: kept)
    data = encoded([5, 2, 9, 2, 7, 1, 3], windows)
    assert len(data) == 7 * windows
    echo = Echo(BACKBONE, BACKBONE.build(), torch.nn.Identity())
    _, predictions = Evaluator(Voting(), Accelerator(cpu=True), batch_size=4).test(echo, data)
    assert predictions == [[index] * windows for index in range(7)]


def test_batches_padded_further_give_the_same_loss_step_by_step():
    """What buckets save is computing on padding, and nothing else."""
    task, method = ToyTexts(), registry.methods.get("lora")()

    class Longer(ToyEncoder):
        def collate(self, inputs):
            batch = super().collate(inputs)
            room = 40 - batch["input_ids"].shape[1]
            return {name: torch.nn.functional.pad(values, (0, room)) for name, values in batch.items()}

    losses = []
    for backbone in (BACKBONE, Longer()):
        torch.manual_seed(0)
        model = backbone.build().requires_grad_(False)
        method.apply(backbone, model)
        learner = Learner(backbone, model, torch.nn.Linear(32, 2))
        data = task.load("praise")
        train, validation = (encode(s, task.windows(backbone), backbone) for s in (data.train, data.validation))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # masks are drawn for padding too
        log = Trainer(task, TrainingProtocol(epochs=3, batch_size=8), Accelerator(cpu=True)).fit(
            learner, method, train, validation, seed=0
        )
        losses.append([epoch.train_loss for epoch in log.history])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0][-1] < losses[0][0]
