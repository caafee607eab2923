"""Data sets: raw examples in splits, and the windows on them that go through a model.

This module imports no torch: backbones and tasks, which are listed without it, import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from zipeft.api.sealed import SealedSplit, TestLocked

if TYPE_CHECKING:
    from PIL.Image import Image

Draw = Callable[[int], tuple[Sequence[int], Sequence[int]]]
"""Returns the indices of the training and of the validation examples that a run of a seed takes."""


@dataclass(frozen=True)
class Split:
    """Labelled examples. ``examples[i]`` is raw (a PIL image, a string, ...) and may be read lazily; ``targets[i]``
    is its label. ``names[i]`` says which example it is (a path, a glyph); no two of a data set have the same."""

    examples: Sequence[Any]
    targets: Sequence[Any]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Picture:
    """An image beside a text. Two of the same ``name`` are the same image; ``read`` returns it in RGB, or raises
    ``BrokenImage``."""

    name: str
    read: Callable[[], Image] = field(compare=False, repr=False)


NO_LABEL = -100
"""Stands for the label of a token that has none, and pads labels; PyTorch's losses leave it out by default."""

PLACES = ("predictors", "predicted", "option", "lacking", "padding")
"""Inputs that name tokens of a batch by row and column. They are found when it is collated, and of that batch alone."""


class Window(NamedTuple):
    """What goes through the model at once: an example, or a window on one that is too long.

    ``inputs`` is what the backbone takes, without the batch dimension; ``target`` is what the loss takes (a number, a
    tuple of numbers, or a tensor of labels with ``NO_LABEL`` for none); ``origin`` is what ``Objective.merge`` needs.
    """

    inputs: Any
    target: Any
    origin: Any = None


@dataclass(frozen=True)
class Data:
    """One data set, split. ``source`` says in a short phrase where it came from ("carrier qtawesome 1.4.2",
    "folder CUB_200_2011"); ``checksum`` is a SHA-256 over what decides its content; ``note`` says in one sentence
    what was taken and how it was split.

    With ``draw`` each run takes a subset of the training and validation data: the indices that ``draw(seed)`` returns,
    as many for every seed. A search has a seed of its own, and so a subset of its own.

    ``test`` is given as a ``Split`` and sealed at once (``zipeft.api.sealed``). ``shifted`` holds further test splits
    by name, of other domains than the training data: reported, never selected on, and sealed too. Raises ``TestLocked``
    if one of them shares examples with the other splits: who selects on validation data would select on test data.
    """

    name: str
    classes: Sequence[str]
    train: Split
    validation: Split
    test: Split | SealedSplit
    source: str
    checksum: str
    note: str = ""
    shifted: Mapping[str, Split | SealedSplit] = field(default_factory=dict)
    draw: Draw | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "test", self._sealed(self.test, self.name))
        sealed = {name: self._sealed(split, f"{self.name} {name}") for name, split in self.shifted.items()}
        object.__setattr__(self, "shifted", MappingProxyType(sealed))

    def counts(self) -> tuple[int, int, int]:
        """Return how many examples a run trains on, is validated on and is tested on."""
        train, validation = self.draw(0) if self.draw else (self.train, self.validation)
        return len(train), len(validation), len(self.test)

    def sealed_splits(self) -> dict[str, SealedSplit]:
        """Return all test splits by name: "test" is the data set's own, others are those that are shifted."""
        return {name: self._sealed(split, name) for name, split in {"test": self.test, **self.shifted}.items()}

    def _sealed(self, test: Split | SealedSplit, name: str) -> SealedSplit:
        if isinstance(test, SealedSplit):
            return test
        for split in ("train", "validation"):
            if shared := set(test.names).intersection(getattr(self, split).names):
                raise TestLocked(
                    f"{name}: {len(shared)} examples are in the {split} split and in the test split, such as "
                    f"{min(shared)!r}: a choice made on them would be made on test data"
                )
        return SealedSplit(name, test)
