"""Few shots: each seed takes a few images a class from a full data set (arXiv 2109.01134)."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.tasks.coop.lists import Lists, ShotList

VALIDATION_SHOTS = 4
"""So many images a class validate at most, and never more than there are shots, as in CoOp."""


Members = Mapping[str, Sequence[Sequence[int]]]
"""The indices of each class's examples, by split."""

Rule = Callable[[Members, Mapping[str, int], int], Mapping[str, Sequence[int]]]
"""Returns the indices that a seed draws, by split, from the members of classes and the numbers of shots."""


def as_coop(members: Members, shots: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Draw as CoOp does: from one stream for all splits in turn, and nothing where a class has too few examples."""
    stream = random.Random(seed)
    return {
        split: [
            index
            for there in members[split]
            for index in (stream.sample(there, wanted) if len(there) >= wanted else there)
        ]
        for split, wanted in shots.items()
    }


class Pool(NamedTuple):
    """A full data set, sorted by class, from whose training and validation images few shots are drawn.

    ``lists`` holds what seeds take where the data set lists it, ``rule`` how all others draw, and ``order`` the labels
    of a split in the order of drawing, where that is not their own.
    """

    data: Data
    lists: Lists = MappingProxyType({})
    rule: Rule = as_coop
    order: Mapping[str, Sequence[int]] = MappingProxyType({})


@dataclass(frozen=True)
class Draw:
    """Which training and validation examples a seed takes: those of its list or, drawn anew, so many of each class.

    ``targets`` holds the labels of all examples of a split, ``order`` the labels in the order in which the rule draws,
    ``listed`` the indices that a seed's list names. With ``base`` it keeps the draw's first ``base`` classes: base
    classes get the same shots as in a data set of all classes, as in CoOp.
    """

    shots: int
    targets: Mapping[str, Sequence[int]]
    order: Mapping[str, Sequence[int]]
    rule: Rule
    base: int | None = None
    listed: Mapping[tuple[str, int], Sequence[int]] = field(default_factory=dict)

    def __call__(self, seed: int) -> tuple[Sequence[int], Sequence[int]]:
        shots = {split: self._shots(split) for split in self.targets}
        drawn = self.rule({split: self._members(split) for split in shots}, shots, seed)
        train, validation = (
            self.listed.get((split, seed)) or [index for index in drawn[split] if self._is_taken(split, index)]
            for split in shots
        )
        return train, validation

    def count(self, split: str) -> Counter[int]:
        """Return how many examples of each class are taken: as many as there are, where those are too few."""
        there = Counter(label for index, label in enumerate(self.targets[split]) if self._is_taken(split, index))
        return Counter({label: min(self._shots(split), count) for label, count in there.items()})

    def _shots(self, split: str) -> int:
        return self.shots if split == "train" else min(self.shots, VALIDATION_SHOTS)

    def _is_taken(self, split: str, index: int) -> bool:
        return self.base is None or self.targets[split][index] < self.base

    def _members(self, split: str) -> list[list[int]]:
        members = defaultdict(list)
        for index, label in enumerate(self.targets[split]):
            members[label].append(index)
        return [members[label] for label in self.order.get(split, sorted(members)) if label in members]


def few_shots(pool: Pool, name: str, shots: int, base: int | None = None) -> Data:
    """Return a data set from which each seed draws ``shots`` training images a class; the test data stay whole.

    With ``base``, seeds draw from the first ``base`` classes alone. Raises ``UserError`` for a list that takes another
    number of images of a class than a draw would.
    """
    data = pool.data
    train, validation = (_of_classes(split, base) for split in (data.train, data.validation))
    targets = {"train": data.train.targets, "validation": data.validation.targets}
    draw = Draw(shots, targets, pool.order, pool.rule, base)
    draw = replace(draw, listed=_listed(pool, draw, {"train": train.names, "validation": validation.names}))
    return replace(
        data,
        name=name,
        train=train,
        validation=validation,
        draw=draw,
        checksum=digest(data.checksum, sorted(draw.listed.items())) if draw.listed else data.checksum,
        note="; ".join([data.note, *_notes(draw, data.classes, len(train))]),
    )


def _notes(draw: Draw, classes: Sequence[str], there: int) -> list[str]:
    taken = draw.count("train")
    notes = [
        f"{counted(draw.shots, 'shot')} a class, drawn by each run's seed, and at most {VALIDATION_SHOTS} to validate"
    ]
    if few := sum(count < draw.shots for count in taken.values()):
        notes.append(
            f"{counted(few, 'class', 'classes')} with fewer images, {taken.total() / len(taken):.1f} a class on average"
        )
    if seeds := sorted({seed for _, seed in draw.listed}):
        notes.append(f"images of {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))} as listed")
    if taken.total() == there:
        notes.append("all seeds train on the same images, as there are no more")
    if draw.base is not None:
        notes.append(f"base classes: the first {draw.base} of {len(classes)}")
    return notes


def _of_classes(split: Split, base: int | None) -> Split:
    size = len(split) if base is None else sum(target < base for target in split.targets)
    return Split(split.examples[:size], split.targets[:size], split.names[:size])


def _listed(pool: Pool, draw: Draw, names: Mapping[str, Sequence[str]]) -> dict[tuple[str, int], Sequence[int]]:
    found: dict[tuple[str, int], Sequence[int]] = {}
    for (split, shots, seed), own in pool.lists.items():
        if shots == draw.shots:
            found[split, seed] = _indices(pool.data, draw, split, own, names[split])
    return found


def _indices(data: Data, draw: Draw, split: str, own: ShotList, names: Sequence[str]) -> list[int]:
    """Return where a list's images are among ``names``; those of other classes than the drawn ones are passed over."""
    indices = [index for index, name in enumerate(names) if name in own.files]
    listed, drawn = Counter(draw.targets[split][index] for index in indices), draw.count(split)
    for label, count in drawn.items():
        if listed[label] != count:
            raise UserError(
                f"{own.listed_in} lists {counted(listed[label], 'image')} of class {data.classes[label]!r} where "
                f"{counted(draw.shots, 'shot')} take {count}: all seeds must train on as many images"
            )
    return indices


def digest(*values: object) -> str:
    """Return the SHA-256 of values as JSON."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
