"""Models and data sets as a process keeps them: the last ones alone, encoded, the test data sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zipeft.api.backbone import Backbone
from zipeft.api.data import Draw, Split
from zipeft.api.protocol import Augmentation
from zipeft.api.sealed import SealedSplit, TestLocked
from zipeft.api.task import Task
from zipeft.last_only import LastOnly
from zipeft.training.dataset import EncodedSplit, augment, encode, read_one_by_one
from zipeft.training.frozen_model import FrozenModel
from zipeft.training.readers import READERS, Readers

WASTE = 10
"""A pool from which runs draw is not encoded at once if it is so many times larger than what a run takes."""


class Encoded(NamedTuple):
    """The splits of a data set as a backbone takes them; the sealed ones hold an ``EncodedSplit`` each."""

    train: EncodedSplit
    validation: EncodedSplit
    test: SealedSplit
    shifted: Mapping[str, SealedSplit]


class LoadedSet:
    """One data set for one backbone. It is read at once; it is encoded when its splits are first needed.

    Under an ``augmentation`` of the task its training examples are made anew in every epoch.
    Raises ``UserError`` for whatever is missing or broken in it.
    """

    def __init__(
        self,
        task: Task,
        name: str,
        backbone: Backbone,
        augmentation: Augmentation = "none",
        readers: Readers = READERS,
    ) -> None:
        self.name, self.task, self.backbone = name, task, backbone
        self.augmentation, self.readers = augmentation, readers
        self.data = task.load_for(name, backbone)

    @cached_property
    def encoded(self) -> Encoded:
        """All examples, encoded. Raises ``TestLocked`` if validation data are test data under other names."""
        windows_of = self.task.windows(self.backbone)

        def read(split: Split) -> EncodedSplit:
            return encode(split, windows_of, self.backbone, self.readers)

        def read_test(split: Split) -> EncodedSplit:
            test = read(split)
            _check_unlike(validation, test, self.name)
            return test

        def read_pool(pool: Split, taken: int) -> EncodedSplit:
            if len(pool) <= WASTE * taken:
                return read(pool)
            return read_one_by_one(pool, windows_of, self.backbone, self.readers)  # each draw's few are encoded then

        train_taken, validation_taken, _ = self.data.counts()
        train = self._augmented() or read_pool(self.data.train, train_taken)
        validation = read_pool(self.data.validation, validation_taken)
        sealed = {name: split.map(read_test) for name, split in self.data.sealed_splits().items()}
        return Encoded(train, validation, sealed.pop("test"), sealed)

    def _augmented(self) -> EncodedSplit | None:
        if self.augmentation == "none":
            return None
        windows_of = self.task.augmented_windows(self.backbone, self.augmentation)
        return augment(self.data.train, windows_of, self.backbone, 0, self.readers)

    def draw(self, seed: int) -> tuple[EncodedSplit, EncodedSplit]:
        """Return the training and validation data that runs of a seed take; those of the last seed are kept."""
        train, validation = self._drawn.get(seed) if self._drawn else self.encoded[:2]
        return (train if train.augmented is None else replace(train, augmented=seed)), validation

    def plain(self, seed: int) -> EncodedSplit:
        """Return the training data that runs of a seed take, without augmentation."""
        train, _ = self.draw(seed)
        if train.augmented is None:
            return train
        return read_one_by_one(train.split, self.task.windows(self.backbone), self.backbone, self.readers)

    @cached_property
    def _drawn(self) -> LastOnly[int, tuple[EncodedSplit, EncodedSplit]] | None:
        return LastOnly(partial(_draw, self.data.draw, self.encoded)) if self.data.draw else None

    def targets(self, seed: int) -> list[Any]:
        """Return the targets of the training examples that runs of a seed take."""
        targets = self.data.train.targets
        return [targets[index] for index in self.data.draw(seed)[0]] if self.data.draw else list(targets)


class Loader:
    """Loads models and data sets when they are first needed, and keeps one of each: the one that was needed last.

    The experiments of one process share it. ``readers`` read what does not fit in memory.
    """

    def __init__(self, readers: Readers = READERS) -> None:
        self._models = LastOnly(_frozen)
        self._sets: LastOnly[tuple[Task, str, Backbone, Augmentation], LoadedSet] = LastOnly(
            lambda key: LoadedSet(*key, readers)
        )

    def model(self, backbone: Backbone, device: torch.device) -> FrozenModel:
        """Return the frozen model, on a device, that every run on a backbone starts from."""
        return self._models.get((backbone, device))

    def forget_model(self) -> None:
        """Keep no model: it is loaded anew when it is next needed."""
        self._models.clear()

    def dataset(self, task: Task, name: str, backbone: Backbone, augmentation: Augmentation = "none") -> LoadedSet:
        """Return a data set of a task for a backbone."""
        return self._sets.get((task, name, backbone, augmentation))


def _draw(draw: Draw, encoded: Encoded, seed: int) -> tuple[EncodedSplit, EncodedSplit]:
    train, validation = draw(seed)
    return encoded.train.subset(train), encoded.validation.subset(validation)


def _frozen(key: tuple[Backbone, torch.device]) -> FrozenModel:
    backbone, device = key
    return FrozenModel(backbone.load(device))


def _check_unlike(validation: EncodedSplit, test: EncodedSplit, dataset: str) -> None:
    """Raise ``TestLocked`` if test data are, for the most part, validation data under other names.

    Only data that are in memory anyway are compared.
    """
    if test.kept is None or validation.kept is None:
        return
    seen = {_content(window.inputs) for window in validation.kept}
    shared = sum(_content(window.inputs) in seen for window in test.kept)
    if 2 * shared > len(test):
        raise TestLocked(
            f"{dataset}: {shared} of {len(test)} test examples are validation examples under another name: "
            "a choice made on them would be made on test data"
        )


def _content(inputs: Any) -> bytes:
    """Return a digest of encoded inputs: a tensor, or tensors in a dict or a list."""
    if isinstance(inputs, Tensor):
        return hashlib.sha256(inputs.contiguous().numpy().tobytes()).digest()
    return b"".join(map(_content, inputs.values() if isinstance(inputs, dict) else inputs))
