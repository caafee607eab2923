"""What a task plug-in provides: data sets with splits, an objective for each, and its presets.

Plug-ins are named in the entry-point group ``zipeft.tasks``. This module imports no torch, and a plug-in
should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zipeft.errors import UserError
from zipeft.test_lock import SealedSplit, TestLocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zipeft.backbone import Backbone
    from zipeft.objective import Objective
    from zipeft.search import Space


@dataclass(frozen=True)
class Split:
    """Labelled examples. ``examples[i]`` is raw (a PIL image, a string, ...) and may be read lazily; ``targets[i]``
    is its label. ``names[i]`` says which example it is (a path, a glyph); no two of a data set have the same."""

    examples: Sequence[Any]
    targets: Sequence[Any]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)


NO_LABEL = -100
"""Stands for the label of a token that has none, and pads labels; PyTorch's losses leave it out by default."""


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

    With ``draw`` a run takes a part of the training and validation data: the indices that it returns for its seed, as
    many for every seed. A search, which has a seed of its own, so never sees just what a run is trained on.

    ``test`` is given as a ``Split`` and sealed at once (``zipeft.test_lock``). ``shifted`` holds further test splits by
    name, of other domains than the training data: reported, never selected on, and sealed too. Raises ``TestLocked``
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
    draw: Callable[[int], tuple[Sequence[int], Sequence[int]]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "test", self._sealed(self.test, self.name))
        sealed = {name: self._sealed(split, f"{self.name} {name}") for name, split in self.shifted.items()}
        object.__setattr__(self, "shifted", MappingProxyType(sealed))

    def counts(self) -> tuple[int, int, int]:
        """Return how many examples a run trains on, is validated on and is tested on."""
        train, validation = self.draw(0) if self.draw else (self.train, self.validation)
        return len(train), len(validation), len(self.test)

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


@dataclass(frozen=True)
class Preset:
    """A named size of the task: settings of the task (``task``), of the training (``protocol``), and the methods
    that run when none are named (``methods``; empty means all).

    ``settings`` of methods take the place of their defaults, where those do not suit the task at this size. They should
    come from a search, on validation data, that gave every method the same number of trials. ``spaces`` of methods take
    the place of those that they publish: where a language model diverges, a ViT may not have begun to learn.
    """

    task: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spaces: Mapping[str, Space] = field(default_factory=dict)
    seeds: int = 3


@dataclass(frozen=True)
class PublishedTable:
    """Results that others published on the real task; shown beside measured rows, never ranked with them.

    ``rows`` maps a method, as published, to one value a column.
    """

    title: str
    source: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Average:
    """A mean over some of a task's data sets, shown beside their columns: ``weights`` by data set, which add up to 1.

    It is shown only where all of its data sets have a score.
    """

    name: str
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if abs(sum(self.weights.values()) - 1) > 1e-9:
            raise ValueError(f"the weights of {self.name!r} add up to {sum(self.weights.values())}, not to 1")


@dataclass(frozen=True)
class Summary:
    """One number from a method's other scores: ``of`` takes their means over data sets and seeds, by name.

    ``meaning`` is a sentence that says what it is. It is shown only where every data set has the scores of ``needs``.
    """

    name: str
    meaning: str
    needs: tuple[str, ...]
    of: Callable[[Mapping[str, float]], float]


@dataclass(frozen=True)
class Task(abc.ABC):
    """A family of data sets with one protocol. An instance's fields are settings of the run.

    The first line of a subclass's docstring is its description in ``zipeft ls``.
    """

    data_dir: Path | None = None
    """A folder of the user's data; None stands for the embedded default."""

    modality: ClassVar[str]
    presets: ClassVar[Mapping[str, Preset]]
    published: ClassVar[Sequence[PublishedTable]] = ()
    averages: ClassVar[Sequence[Average]] = ()
    """Means over groups of data sets, by the names that they have on a page."""
    summaries: ClassVar[Sequence[Summary]] = ()
    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir",)
    """Settings that do not decide a result: where the data lies (their checksum is on record), which sets are run."""

    @abc.abstractmethod
    def datasets(self) -> Sequence[str]:
        """Return the names of the data sets of this instance, cheaply. Raises ``UserError`` on bad settings."""

    @abc.abstractmethod
    def load(self, dataset: str) -> Data:
        """Return one data set, split. The same settings always give the same splits. Raises ``UserError``."""

    def load_for(self, dataset: str, backbone: Backbone) -> Data:
        """Return the data set as a backbone can take it: ``load``, but for a task of which it depends on the backbone
        what can be taken at all."""
        return self.load(dataset)

    @abc.abstractmethod
    def objective(self, dataset: str, classes: Sequence[str]) -> Objective:
        """Return what is learnt on one of the data sets, which has these ``classes``."""

    def encoder(self, backbone: Backbone) -> Callable[[Any], Any]:
        """Return the function from one raw example to what the backbone takes (without the batch dimension)."""
        raise NotImplementedError(f"{type(self).__name__} has neither an encoder nor windows")

    def windows(self, backbone: Backbone) -> Callable[[Any, Any], Sequence[Window]]:
        """Return the function from one raw example and its target to the windows on it: one, by ``encoder``."""
        encode = self.encoder(backbone)
        return lambda example, target: [Window(encode(example), target)]

    def fetch(self, folder: Path | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Get the data sets of these names, or all, into ``folder`` or the cache, and yield each name and what came of
        it. What is there already is verified, not fetched. Raises ``UserError`` for a task that has nothing to fetch.
        """
        raise UserError("this task has nothing to fetch: its data are a folder of yours, or come when they are needed")
