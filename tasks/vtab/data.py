"""What the sets of VTAB have in common, wherever they come from: 800, 200 and a test part, a checksum and a note."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.formatting import counted
from zipeft.images.lazy import Lazy
from zipeft.images.reading import BrokenImage
from zipeft.tasks.vtab.sets import SETS, TRAIN, VALIDATION

log = logging.getLogger(__name__)

NOT_VTABS = "not VTAB's own 1,000 images, which the order of its TensorFlow data set decides"


class Sizes(NamedTuple):
    """The settings that say which examples of a set are taken: the seed of what is drawn, and how many of the test
    part are taken (0: all)."""

    split_seed: int
    test_examples: int


def shuffled(total: int, seed: int) -> list[int]:
    """Return the numbers from 0 to ``total`` - 1 in the order of a seed, which is the same on every machine."""
    import numpy as np

    return np.random.RandomState(seed).permutation(total).tolist()


def first_thousand(total: int, seed: int, source: str) -> tuple[list[int], list[int], list[int]]:
    """Return which of ``total`` examples train, which validate, and the others, all drawn by the seed.

    Raises ``UserError`` where there are too few.
    """
    both = TRAIN + VALIDATION
    if total < both:
        raise UserError(f"{source} has {counted(total, 'training image')}; VTAB takes {both:,}: get the whole set")
    order = shuffled(total, seed)
    return order[:TRAIN], order[TRAIN:both], order[both:]


def check_test(name: str, found: int, source: str, notes: list[str]) -> None:
    """Note that a set has more test images than VTAB's. Raises ``UserError`` for fewer: a score on a part of them would
    stand under the name of the whole."""
    if found < (whole := SETS[name].test):
        raise UserError(f"{source} has {counted(found, 'test image')}; VTAB's {name} has {whole:,}: get the whole set")
    if found > whole:
        notes.append(f"{found:,} test images where VTAB has {whole:,}")


def limited(indices: Sequence[int], sizes: Sizes) -> list[int]:
    """Return all test examples, or as many as are to be taken, drawn by the seed, in their own order."""
    if not 0 < sizes.test_examples < len(indices):
        return list(indices)
    return [indices[place] for place in sorted(shuffled(len(indices), sizes.split_seed)[: sizes.test_examples])]


def picked(pool: Split, indices: Sequence[int]) -> Split:
    """Return a part of a split; its examples stay as lazy as they are."""
    targets, names = ([values[index] for index in indices] for values in (pool.targets, pool.names))
    return Split(Lazy(pool.examples.__getitem__, list(indices)), targets, names)


def without_broken(splits: Mapping[str, Split], notes: list[str]) -> dict[str, Split]:
    """Decode every image, leave out those that fail, and say so in a note and in the log.

    Raises ``UserError`` where that leaves a split without images.
    """
    kept: dict[str, Split] = {}
    for split, part in splits.items():
        whole = [index for index in range(len(part)) if _decodes(part, index)]
        if not whole:
            raise UserError(f"no {split} image of {len(part):,} decodes: get the set again")
        kept[split] = picked(part, whole)
    if broken := sum(len(splits[split]) - len(kept[split]) for split in splits):
        notes.append(f"{counted(broken, 'image')} that did not decode left out")
    return kept


def _decodes(part: Split, index: int) -> bool:
    try:
        part.examples[index]
    except BrokenImage as error:
        log.warning("%s does not decode (%s): left out", error.path, error.reason)
        return False
    return True


def build_data(
    name: str,
    classes: Sequence[str],
    splits: Mapping[str, Split],
    *,
    source: str,
    content: Any,
    notes: Sequence[str] = (),
) -> Data:
    """Return a data set. Its checksum covers the classes, the names and targets of each split, and ``content``, a JSON
    value for all else that decides the images."""
    parts = {split: [list(part.names), list(part.targets)] for split, part in splits.items()}
    record = json.dumps([content, list(classes), parts], sort_keys=True)
    seen, counts = len(set(splits["train"].targets)), ", ".join(f"{len(part):,} {at}" for at, part in splits.items())
    untrained = [f"only {seen} of them have training images"] if seen < len(classes) else []
    return Data(
        name=name,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        source=source,
        checksum=hashlib.sha256(record.encode()).hexdigest(),
        note="; ".join([counted(len(classes), "class", "classes"), *untrained, f"images: {counts}", *notes]),
    )


def numbered(count: int) -> list[str]:
    """Return the names of classes that have numbers alone."""
    return [str(number) for number in range(count)]
