"""Processes that read examples: they change nothing but time, and what befalls one of them is said in a line."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
from dataclasses import asdict, replace
from itertools import chain

import pytest
import torch
from accelerate import Accelerator

from support import experiments
from support.pictures import save_noisy
from support.toys import SIZE, ToyViT
from zipeft import registry
from zipeft.api.data import Split, Window
from zipeft.api.learner import Learner
from zipeft.errors import UserError
from zipeft.experiments.experiment import Experiment
from zipeft.experiments.loading import Loader
from zipeft.tasks.folder import Folder
from zipeft.training.batches import shuffled_batches
from zipeft.training.dataset import augment, encode
from zipeft.training.execution import Execution
from zipeft.training.frozen_trunk import FrozenTrunk
from zipeft.training.parallel import ALL, Shard
from zipeft.training.readers import Readers, processes_here, told_of_dead_workers

EPOCHS = 2


@pytest.fixture
def folder(tmp_path):
    for index in range(24):
        save_noisy(tmp_path / "folder" / ("red", "blue")[index % 2] / f"{index}.png", "grey", size=(30, 20))
    return tmp_path / "folder"


def task(folder):
    return Folder(data_dir=folder, image_size=SIZE)


def augmented(folder, workers, augmentation="crop_flip", seed=3):
    """The training images of a folder, augmented."""
    data = Loader(Readers(workers)).dataset(task(folder), "folder", ToyViT(), augmentation)
    return data.draw(seed)[0]


def digests(data, shard=ALL, seed=0, epochs=EPOCHS):
    """The digest of each image that is read, by epoch and index, as workers give it."""
    found = {}
    loader = shuffled_batches(data, 4, seed, shard)
    for epoch in range(epochs):
        loader.sampler.epoch = epoch
        for batch, weight in zip(loader, loader.sampler.weights(), strict=True):
            images = [image for part in batch for image in part.content["inputs"]] if weight else []
            indices = [index for part in batch for index in part.indices]
            for index, image in zip(indices, images, strict=False):
                assert (epoch, index) not in found
                found[epoch, index] = hashlib.sha256(image.numpy().tobytes()).hexdigest()
    return found


@pytest.mark.parametrize("augmentation", ["flip", "crop_flip"])
def test_any_number_of_workers_gives_the_same_augmented_images_in_the_same_order(folder, augmentation):
    alone, one, two = (digests(augmented(folder, workers, augmentation)) for workers in (0, 1, 2))
    assert list(alone.items()) == list(one.items()) == list(two.items())
    assert len(alone) == EPOCHS * len(augmented(folder, 0))


def test_processes_that_share_the_batches_read_the_images_of_one(folder):
    data = augmented(folder, 0)
    shares = [digests(data, Shard(process, 2)) for process in range(2)]
    assert not shares[0].keys() & shares[1].keys()
    assert shares[0] | shares[1] == digests(data)


def test_an_image_is_another_in_each_epoch_and_for_each_seed_and_of_no_other_thing(folder):
    images = digests(augmented(folder, 0))
    assert len(set(images.values())) > 0.9 * len(images)
    assert not set(images.values()) & set(digests(augmented(folder, 0, seed=4)).values())
    again = digests(augmented(folder, 0), seed=9)  # of another order
    assert list(again) != list(images)
    assert again == images


def test_a_part_of_the_examples_is_augmented_as_all_of_them_are(folder):
    data = augmented(folder, 0)
    part = data.subset([5, 2])
    assert torch.equal(part.in_epoch(1).inputs([1]), data.in_epoch(1).inputs([2]))


def test_what_is_augmented_leaves_the_random_numbers_of_training_as_they_are(folder):
    data, before = augmented(folder, 0), torch.get_rng_state()
    data.inputs([0])
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_and_test_are_never_augmented(folder):
    plain, crops = (
        Loader(Readers(0)).dataset(task(folder), "folder", ToyViT(), augmentation).draw(0)
        for augmentation in ("none", "crop_flip")
    )
    for epoch in range(EPOCHS):
        assert torch.equal(crops[1].in_epoch(epoch).inputs([0, 1]), plain[1].inputs([0, 1]))
    assert crops[1].kept is not None
    assert crops[0].kept is None


def test_the_output_of_a_frozen_trunk_is_kept_of_images_that_are_the_same_in_each_epoch_alone(folder):
    backbone, trunk = ToyViT(), FrozenTrunk(Accelerator(cpu=True), 4)
    learner = Learner(backbone, backbone.build().requires_grad_(False), torch.nn.Linear(32, 2))
    data, validation = Loader(Readers(0)).dataset(task(folder), "folder", backbone, "flip").draw(0)
    learner.find_trunk(data.sample_inputs(2))
    assert learner.has_trunk
    assert trunk.extend(learner, data)[0] is data
    assert trunk.extend(learner, validation)[0].trunk_output is not None


def measured(folder, method, workers, augmentation="crop_flip"):
    comparison = experiments.comparison(task=task(folder), epochs=EPOCHS, batch_size=4, augmentation=augmentation)
    execution = Execution(workers=workers)
    experiment = Experiment(comparison, Accelerator(cpu=True), "pytest", execution=execution)
    return experiment.measure(experiments.run("folder", method, learning_rate=0.01))[0]


@pytest.mark.parametrize("method", ["linear", "zero_gated"])
def test_workers_change_no_number_of_a_record(folder, method):
    """Nor does the output of a frozen trunk, which is kept of validation data alone."""
    records = [measured(folder, method, workers) for workers in (0, 2)]
    contents = [asdict(record) for record in records]
    for content in contents:
        for name in ("cost", "environment", "created"):
            content.pop(name)
    assert contents[0] == contents[1]
    assert [record.environment.execution for record in records] == [{"workers": 0}, {"workers": 2}]
    assert records[0].protocol["augmentation"] == "crop_flip"
    plain = measured(folder, method, None, "none")
    assert "augmentation" not in plain.protocol
    assert plain.id != records[0].id
    assert plain.history != records[0].history


# --- what befalls a worker --------------------------------------------------------------------------------------------


def lazily(windows_of, workers, examples=8):
    split = Split(list(range(examples)), [0] * examples, list(map(str, range(examples))))
    return augment(split, windows_of, ToyViT(), 0, Readers(workers))


class Particular(UserError):
    def __init__(self, one, two):
        super().__init__(f"the image {one} is {two}: repair it")
        self.lock = (lambda: None,)  # can be pickled neither for this nor for its arguments


def broken(example, target):
    if example == 3:
        raise Particular(example, "broken")
    return [Window(torch.zeros(1), target)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_the_one_line_that_it_would_be_without(workers):
    with pytest.raises(UserError, match=r"^the image 3 is broken: repair it$"):
        list(shuffled_batches(lazily(broken, workers), 2, seed=0))


def killed(example, target):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_said_in_one_line():
    said = r"^a worker that reads data died .*--workers 0$"
    with pytest.raises(UserError, match=said) as caught, told_of_dead_workers(Accelerator(cpu=True)):
        list(shuffled_batches(lazily(killed, 1), 2, seed=0))
    assert "\n" not in str(caught.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="of another kind"), told_of_dead_workers(Accelerator(cpu=True)):
        raise RuntimeError("of another kind")


def test_there_are_workers_for_what_is_read_and_none_for_what_is_kept(folder, monkeypatch):
    split = task(folder).load("folder").train
    parts = task(folder).windows(ToyViT()), ToyViT(), Readers(2)
    kept = encode(split, *parts)
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: False)
    read = encode(split, *parts)
    assert [shuffled_batches(data, 4, 0).num_workers for data in (kept, read)] == [0, 2]
    with_output = replace(read, trunk_output=[torch.zeros(1)] * len(read), needs_inputs=False)
    assert shuffled_batches(with_output, 4, 0).num_workers == 0
    assert shuffled_batches(read, 4, 0).persistent_workers


def test_workers_are_as_many_as_cores_allow(monkeypatch):
    monkeypatch.setattr("zipeft.training.readers.cores", lambda: 16)
    assert Readers().count() == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert processes_here() == 8
    assert Readers().count() == 1
    monkeypatch.setattr("zipeft.training.readers.cores", lambda: 1)
    assert Readers().count() == 0
    assert Readers(3).count() == 3


def test_what_workers_read_can_be_pickled_for_systems_that_do_not_fork(folder):
    backbone = registry.backbones.get("vit")(pretrained=False)
    for augmentation in ("none", "crop_flip"):
        loaded = Loader(Readers(0)).dataset(task(folder), "folder", backbone, augmentation)
        data = replace(loaded.draw(0)[0], kept=None)
        again = pickle.loads(pickle.dumps(data))  # noqa: S301
        assert torch.equal(again.inputs([0]), data.inputs([0]))


# --- memory -----------------------------------------------------------------------------------------------------------


class Counted:
    """Examples that are made when they are read; it counts those that are alive."""

    def __init__(self, examples):
        self.examples, self.alive, self.most, self.read = examples, 0, 0, 0

    def __len__(self):
        return self.examples

    def __getitem__(self, index):
        counted = self
        self.read += 1

        class Example:
            def __init__(self):
                counted.alive += 1
                counted.most = max(counted.most, counted.alive)

            def __del__(self):
                counted.alive -= 1

        return Example()


@pytest.mark.parametrize("augments", [False, True])
def test_of_a_data_set_larger_than_memory_one_example_is_alive_at_a_time(monkeypatch, augments):
    monkeypatch.setattr("zipeft.training.dataset.fits", lambda size: False)
    examples = Counted(40)
    split = Split(examples, [0] * 40, list(map(str, range(40))))
    parts = split, lambda example, target: [Window(torch.zeros(1), target)], ToyViT()
    data = augment(*parts, 0, Readers(0)) if augments else encode(*parts, Readers(0))
    assert examples.read <= 1  # to know how large it is
    loader = shuffled_batches(data, 8, seed=0)
    windows = sum(len(part.indices) for part in chain(*(batch for _ in range(EPOCHS) for batch in loader)))
    assert windows == 40 * EPOCHS
    assert examples.read <= 1 + windows
    assert examples.most == 1
    assert examples.alive == 0
