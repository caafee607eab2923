"""A method that asks for it sees training examples before the first step: those of its run, and no others."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from accelerate import Accelerator

from support import experiments, initialised
from support.forks import fork_together, statuses
from support.initialised import AddsWhatTrains, SeesData
from support.toys import TOYS, ToyTask, ToyTexts, ToyViT, registered
from zipeft import registry
from zipeft.adapters.saved import adapter_bytes, load_adapter, save_adapter
from zipeft.errors import UserError
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.loading import Loader
from zipeft.modules.held_tensors import held
from zipeft.training import checkpoints
from zipeft.training.execution import Execution
from zipeft.training.initialisation import drawn


@pytest.fixture(autouse=True)
def seen():
    initialised.seen.clear()
    yield initialised.seen
    initialised.seen.clear()


@pytest.fixture
def known():
    registry.methods.register("sees_data", SeesData)
    with registered():
        yield
    registry.methods.unregister("sees_data")


def toy_experiment(toy="toy", execution=None, **protocol):
    backbone, task = (part() for part in TOYS[toy])
    settings = {"epochs": 1, "batch_size": 8, **protocol}
    comparison = experiments.comparison(backbone, task, names=(toy, toy), **settings)
    return Experiment(comparison, Accelerator(cpu=True), "pytest", execution=execution or Execution())


def measure(experiment, seed=0, method=None):
    run = experiments.run(*experiment.comparison.datasets(), method or SeesData(), seed, name="sees_data")
    return experiment.measure(run)


def learnt(learner):
    return {name: tensor.detach().clone() for name, tensor in learner.learnt().items()}


def mean_of(learner):
    (mean,) = held(learner.model).values()
    return mean


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("toy", TOYS)
def test_a_method_sees_the_examples_that_it_asks_for_on_every_kind_of_backbone(toy, seen):
    result, learner = measure(toy_experiment(toy))
    assert sum(len(targets) for _, targets in seen) == 10
    assert max(len(targets) for _, targets in seen) <= 8  # the protocol's batches
    assert mean_of(learner).abs().max() > 0
    assert result.cost.frozen_prefix_seconds > 0


def test_it_sees_training_examples_alone_and_no_one_twice(seen):
    measure(toy_experiment())
    splits = [ToyTask()._split(seed).examples for seed in range(3)]
    images = [image for inputs, _ in seen for image in inputs]
    train, validation, test = ({image.numpy().tobytes() for image in split} for split in splits)
    shown = {image.numpy().tobytes() for image in images}
    assert len(shown) == 10
    assert shown < train
    assert not shown & (validation | test)


def test_no_batch_is_padded(seen):
    measure(toy_experiment("toy_text"))
    assert all(inputs["attention_mask"].all() for inputs, _ in seen)
    assert len({inputs["input_ids"].shape[1] for inputs, _ in seen}) > 1


def test_augmentation_leaves_it_as_it_is():
    loader, task, backbone = Loader(), ToyTask(), ToyViT()
    plain = loader.dataset(task, "colours", backbone).plain(0)
    loaded = Loader().dataset(task, "colours", backbone)
    train = loaded.encoded.train
    loaded.encoded = loaded.encoded._replace(
        train=train.__class__(train.split, lambda *_: 1 / 0, backbone, None, range(len(train)), None, augmented=3)
    )
    again = loaded.plain(0)
    assert torch.equal(again.inputs([3, 5]), plain.inputs([3, 5]))


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(seen):
    experiment = toy_experiment()
    first, learner = measure(experiment)
    again, other_learner = measure(experiment)
    assert same(learnt(learner), learnt(other_learner))
    assert (first.history, first.test) == (again.history, again.test)
    other, _ = measure(experiment, seed=1)
    assert other.history != first.history
    names = [tuple(map(int, targets)) for _, targets in seen]
    assert names[:2] == names[2:4] != names[4:]


def test_nothing_is_called_for_a_method_that_asks_for_none(monkeypatch):
    def refuse(*_):
        raise AssertionError("called")

    monkeypatch.setattr(SeesData, "initialise", refuse)
    monkeypatch.setattr("zipeft.training.initialisation.drawn", refuse)
    measure(toy_experiment(), method=SeesData(examples=0))
    measure(toy_experiment(), method=registry.methods.get("zero_gated")())


def test_no_registered_method_pays_for_it_by_default():
    assert [name for name in registry.methods.by_default() if registry.methods.get(name)().sample_size()] == []


def test_it_may_not_change_what_trains():
    with pytest.raises(UserError, match="changed what trains: it may change values alone"):
        measure(toy_experiment(), method=AddsWhatTrains())


def test_a_saved_adapter_holds_what_it_came_to(known, tmp_path):
    experiment = toy_experiment()
    run = experiments.run("colours", SeesData(), name="sees_data")
    result, learner = experiment.measure(run)
    folder = save_adapter(tmp_path / "saved", learner, experiment.describer.adapter(run))
    assert (folder / "adapter.safetensors").stat().st_size == adapter_bytes(learner) == result.cost.adapter_bytes
    again, _ = load_adapter(folder)
    assert same(learnt(again), learnt(learner))
    images = torch.stack(ToyTask()._split(9).examples[:4])
    assert torch.equal(again(images), learner.eval()(images))
    assert mean_of(again).abs().max() > 0


def test_a_run_that_was_killed_goes_on_from_what_its_method_made(monkeypatch, tmp_path):
    for name in ("AT_EPOCHS", "WITHIN_EPOCHS"):
        monkeypatch.setattr(checkpoints, name, 0.0)
    monkeypatch.setattr(checkpoints, "SHARE", float("inf"))
    experiment = toy_experiment(epochs=2)
    experiment.checkpoint_of = lambda run: tmp_path / f"{run}.checkpoint"
    undisturbed, whole = measure(toy_experiment(epochs=2))
    run = experiments.run("colours", SeesData(), name="sees_data")

    steps = []

    def kill(total):
        steps.append(total)
        if len(steps) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiment.measure(run, kill)
    monkeypatch.setattr(SeesData, "initialise", lambda *_: None)  # where it is computed again, it may be rounded anew
    resumed, learner = experiment.measure(run)
    assert resumed.environment.execution["resumed"] == 1
    assert same(learnt(learner), learnt(whole))
    assert resumed.test == undisturbed.test


def leave(folder, sharding):
    torch.set_num_threads(1)
    with registered():
        experiment = toy_experiment(execution=Execution(sharding=sharding))
        if not experiment.accelerator.is_main_process:  # another device rounds otherwise
            initialise_there = SeesData.initialise

            def otherwise(self, backbone, model, sample):
                initialise_there(self, backbone, model, sample)
                with torch.no_grad():
                    backbone.blocks(model)[-1].shift.learnt += 1

            SeesData.initialise = otherwise
        _, learner = measure(experiment)
        if experiment.accelerator.is_main_process or not sharding:
            torch.save(learnt(learner), folder / f"{experiment.accelerator.process_index}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [False, True])
def test_several_processes_start_from_what_the_main_one_made(sharding, tmp_path):
    _, alone = measure(toy_experiment())
    assert statuses(fork_together(partial(leave, tmp_path, sharding), 2, tmp_path / "said"), 300) == [0, 0], (
        tmp_path / "said"
    ).read_text()
    for path in sorted(tmp_path.glob("*.pt")):
        there = torch.load(path)
        for name, tensor in learnt(alone).items():
            torch.testing.assert_close(there[name], tensor, atol=1e-4, rtol=1e-3)


def test_the_sample_is_all_there_is_where_that_is_less():
    train = Loader().dataset(ToyTexts(examples=6), "praise", TOYS["toy_text"][0]()).plain(0)
    assert sorted(drawn(train, 99, 0).split.names) == sorted(train.split.names)


def test_micro_batches_bound_the_batches(seen):
    measure(toy_experiment(execution=Execution(micro_batch=3)))
    assert [len(targets) for _, targets in seen] == [3, 3, 3, 1]
