"""Splits of labelled examples: seeded choices (a stratified cut, a stratified part, a part of the classes), and a note
on test data that training has, too.

NumPy keeps the stream of ``RandomState`` fixed for good, so the same seed gives the same choice on every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Hashable, Sequence

from zipeft.errors import UserError, require
from zipeft.formatting import counted

IN_TRAINING = "also in training, word for word"


def check_seed(split_seed: int) -> None:
    """Raise ``ValueError`` for a number that NumPy takes for no seed."""
    require(0 <= split_seed < 2**32, f"split_seed is {split_seed}: give a number from 0 to {2**32 - 1}")


def cut(labels: Sequence[Hashable], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split the indices of ``labels`` by class; return those that stay and those that are taken, both rising.

    Of a class of n examples ``fraction * n`` are taken, rounded, but at least one and never all: a class of one stays
    whole, a class of two is split one to one. (scikit-learn's own stratification refuses a class of one and takes none
    of a small one, so it is asked to cut class by class.)
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    members: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    stream, taken = np.random.RandomState(seed), set()
    for indices in members.values():
        if len(indices) > 1:
            count = min(max(round(fraction * len(indices)), 1), len(indices) - 1)
            taken.update(train_test_split(indices, test_size=count, random_state=stream)[1])
    return [index for index in range(len(labels)) if index not in taken], sorted(taken)


def cut_thrice(
    labels: Sequence[Hashable], seed: int, *, validation: float = 0.1, test: float = 0.2
) -> dict[str, list[int]]:
    """Return the indices of "train", "validation" and "test", cut by class, each given as a part of all.

    ``seed`` decides what is validation data; the test data are the same whatever it is.
    """
    rest, tested = cut(labels, test, 0)
    stay, taken = cut([labels[index] for index in rest], validation / (1 - test), seed)
    return {"train": [rest[at] for at in stay], "validation": [rest[at] for at in taken], "test": tested}


def choose(strata: Sequence[Hashable], count: int, seed: int) -> list[int]:
    """Return ``count`` indices, rising, seeded, among which every stratum has the share that it has of all.

    0 stands for all, as does a number that is too large. With the same seed, fewer are a part of more.
    """
    import numpy as np

    if not 0 < count < len(strata):
        return list(range(len(strata)))
    sizes, seen = Counter(strata), Counter[Hashable]()
    ranked: list[tuple[float, int, int]] = []
    for index in np.random.RandomState(seed).permutation(len(strata)).tolist():
        stratum = strata[index]
        ranked.append(((seen[stratum] + 0.5) / sizes[stratum], len(ranked), index))
        seen[stratum] += 1
    return sorted(index for _, _, index in sorted(ranked)[:count])


def choose_classes(classes: Sequence[str], count: float, seed: int) -> list[str]:
    """Return the first ``count`` of a seeded shuffle of the sorted ``classes``, sorted again; 0 stands for all.

    A ``count`` between 0 and 1 is the part of the classes to take, rounded, and at least two of them. With the same
    seed, fewer classes are a part of more.
    """
    import numpy as np

    ordered = sorted(classes)
    count = max(2, round(count * len(ordered))) if 0 < count < 1 else int(count)
    if not 0 < count < len(ordered):
        return ordered
    return sorted(ordered[index] for index in np.random.RandomState(seed).permutation(len(ordered))[:count])


def note_shared(
    source: str, unit: str, seen: Container[Hashable], test: Sequence[Hashable], where: str = IN_TRAINING
) -> list[str]:
    """Return a note on test data that are also in the training data; none if none are. Published data sets have some.

    Args:
        source: what the data are, for the error.
        unit: what one of them is called, "test image" say.
        seen: what was seen in training: contents, or hashes of them.
        test: the same of all test data.
        where: ends the note.

    Raises ``UserError`` where most of them are shared: then the test data are a copy of the others.
    """
    shared = sum(content in seen for content in test)
    if 2 * shared > len(test):
        raise UserError(f"{source}: {shared:,} of {counted(len(test), unit)} are {where}: give other test data")
    return [f"{counted(shared, unit)} {where}"] if shared else []
