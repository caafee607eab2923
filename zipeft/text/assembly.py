"""From labelled texts to a data set: splits by group, the validation data it lacks, the part taken, the checks."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from zipeft.api.data import Data, Split
from zipeft.errors import UserError
from zipeft.sources.splits import choose, cut, note_shared

log = logging.getLogger(__name__)

T = TypeVar("T")

VALIDATION, MOST_VALIDATION = 0.1, 2000
"""The part of the training data that is cut off for validation where the data bring none, and its largest number."""

TEST = 0.2
"""The part of data without splits that is test data."""


class TextExample(NamedTuple):
    """A labelled example: one text or two, and the index of its class or, where there are no classes, a score."""

    name: str
    texts: tuple[str, ...]
    target: int | float


Splits = Mapping[str, Sequence[TextExample]]


def text_data(
    name: str,
    splits: Splits,
    *,
    classes: Sequence[str],
    limits: Mapping[str, int],
    seed: int,
    source: str,
    notes: Sequence[str] = (),
    shifted: Splits | None = None,
) -> Data:
    """Return the data set of some examples, given by split: "train", "test", and perhaps "validation".

    Without validation data, a tenth of the training data is, but about ``MOST_VALIDATION`` at most, by class.
    ``classes`` is empty where targets are scores. ``limits`` says how many examples of "train", "validation" and "test"
    to take (0: all), see ``choose``; that of "test" holds for every one of ``shifted``, too. ``Data.checksum`` covers
    what is taken: names, texts and targets. Raises ``UserError``: a split without examples, a class that is not in the
    training data, test texts that are, for the most part, training texts.
    """
    notes, parts = list(notes), {**splits, **(shifted or {})}
    if "validation" not in parts:
        train = parts.pop("train")
        share = validation_share(len(train))
        stay, taken = cut(_strata(train, classes), share, seed)
        cut_off = {"train": [train[at] for at in stay], "validation": [train[at] for at in taken]}
        parts = {**cut_off, **parts}
        notes.append(f"validation cut from the training data, {100 * share:.2g}%{_by(classes)} with seed {seed}")
    _check(source, parts, classes, limits["train"])
    chosen = {}
    for split, examples in parts.items():
        indices = choose(_strata(examples, classes), limits.get(split, limits["test"]), seed)
        chosen[split] = [examples[index] for index in indices]
    notes.append(_counts(parts, chosen, classes, seed))
    _note_leaks(source, chosen, notes)
    made = {split: _split(examples) for split, examples in chosen.items()}
    return Data(
        name=name,
        classes=list(classes),
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        source=source,
        checksum=_checksum(classes, chosen),
        note="; ".join(notes),
        shifted={split: made[split] for split in shifted or {}},
    )


def _split(examples: Sequence[TextExample]) -> Split:
    return Split(
        examples=[example.texts for example in examples],
        targets=[example.target for example in examples],
        names=[example.name for example in examples],
    )


def _strata(examples: Sequence[TextExample], classes: Sequence[str]) -> list[Hashable]:
    return [example.target if classes else "any" for example in examples]


def _by(classes: Sequence[str]) -> str:
    return " by class" if classes else ""


def _check(source: str, parts: Splits, classes: Sequence[str], limit: int) -> None:
    for split, examples in parts.items():
        if not examples:
            raise UserError(f"{source} has too few examples to have one for {split}: add some")
    there = {example.target for example in parts["train"]}
    for index, label in enumerate(classes):
        if index not in there:
            raise UserError(f"{source} has no training example of {label!r}: add some")
    if 0 < limit < len(classes):
        raise UserError(f"train_examples is {limit}: give as many as there are classes, {len(classes)}, or more")


def _counts(parts: Splits, chosen: Splits, classes: Sequence[str], seed: int) -> str:
    words, is_part = [], False
    for split, examples in parts.items():
        of_all = f" of {len(examples):,}" if len(chosen[split]) < len(examples) else ""
        words.append(f"{len(chosen[split]):,}{of_all} {split}")
        is_part = is_part or bool(of_all)
    return f"examples: {', '.join(words)}" + (f", the part chosen{_by(classes)} with seed {seed}" if is_part else "")


def _note_leaks(source: str, chosen: Splits, notes: list[str]) -> None:
    """Say how many test examples have the texts of a training example."""
    seen = {example.texts for split in ("train", "validation") for example in chosen[split]}
    for split, examples in chosen.items():
        if split not in ("train", "validation"):
            notes += note_shared(source, f"{split} example", seen, [example.texts for example in examples])


def _checksum(classes: Sequence[str], chosen: Splits) -> str:
    digest = hashlib.sha256(json.dumps(list(classes)).encode())
    for split, examples in sorted(chosen.items()):
        for example in examples:
            digest.update(b"\n" + json.dumps([split, *example]).encode())
    return digest.hexdigest()


# --- what is taken ----------------------------------------------------------------------------------------------------


def validation_share(count: int) -> float:
    """Return which part of so many training examples validation takes."""
    return min(VALIDATION, MOST_VALIDATION / max(count, 1))


# --- splits by group --------------------------------------------------------------------------------------------------


def split_by_group(examples: Sequence[T], keys: Sequence[Sequence[Hashable]], seed: int) -> dict[str, list[T]]:
    """Split examples into train, validation and test; those that share a key, even by way of others, stay together.

    ``seed`` decides what of the rest is validation data; the test data are the same whatever it is.
    """
    groups = linked(keys)
    rest, test = cut_groups(groups, TEST, 0)
    stay, taken = cut_groups([groups[index] for index in rest], validation_share(len(rest)), seed)
    indices = {"train": [rest[at] for at in stay], "validation": [rest[at] for at in taken], "test": test}
    return {split: [examples[index] for index in some] for split, some in indices.items()}


def linked(keys: Sequence[Sequence[Hashable]]) -> list[int]:
    """Return the group of each example: two have the same if a chain of shared keys leads from one to the other."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    nodes: dict[Hashable, int] = {}
    edges = [(index, nodes.setdefault(key, len(keys) + len(nodes))) for index, some in enumerate(keys) for key in some]
    size = len(keys) + len(nodes)
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (rows, columns)), shape=(size, size))
    return connected_components(graph, directed=False)[1][: len(keys)].tolist()


def cut_groups(groups: Sequence[Hashable], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split the indices of ``groups`` so that no group is on both sides; return those that stay and those taken.

    Groups are taken in a seeded order, each that still fits into ``fraction`` of all examples.
    """
    import numpy as np

    sizes, taken = Counter(groups), set()
    room, order = round(fraction * len(groups)), list(sizes)
    for at in np.random.RandomState(seed).permutation(len(order)).tolist():
        if sizes[order[at]] <= room:
            taken.add(order[at])
            room -= sizes[order[at]]
    sides: tuple[list[int], list[int]] = ([], [])
    for index, group in enumerate(groups):
        sides[group in taken].append(index)
    return sides


def words_of(text: str) -> str:
    """Return the words of a text alone: texts that differ in case, spaces and punctuation only are then the same."""
    return " ".join(re.findall(r"\w+", text.lower())) or text
