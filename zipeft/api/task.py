"""What a task plug-in provides: data sets with splits, an objective for each, and its presets.

Plug-ins are named in the entry-point group ``zipeft.tasks``. This module imports no torch, and a plug-in
should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.data import Data, Window
from zipeft.api.protocol import Augmentation
from zipeft.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zipeft.api.data import Split
    from zipeft.api.objective import Objective
    from zipeft.api.search import Space
    from zipeft.api.showcase import Showcase


@dataclass(frozen=True)
class Preset:
    """A named size of the task: settings of the task (``task``), of the training (``protocol``), and the methods
    that run when none are named (``methods``; empty means all).

    ``settings`` of methods take the place of their defaults, where those do not suit the task at this size. They should
    come from a search, on validation data, that gave every method the same number of trials. ``spaces`` of methods take
    the place of those that they publish: where a language model diverges, a ViT may not have begun to learn. Both hold
    for the forms of a method too (``lora_blind``).
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

    ``rows`` maps a method, as published, to one value a column. ``measures`` says of each column what is measured of it
    here: "DATASET" for a data set's metric, "DATASET/SCORE" for another score, or "" for nothing; where it is left out,
    a column that has the name of a data set or of an average is its. ``split`` says on which data: "test" or
    "validation".
    """

    title: str
    source: str
    columns: Sequence[str]
    rows: Mapping[str, Sequence[str]]
    measures: Sequence[str] = ()
    split: str = "test"


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

    A backbone that a task is handed has the task's modality. It is Any here, and what a subclass says it is.

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
    augmentations: ClassVar[tuple[Augmentation, ...]] = ("none",)
    """The augmentations of a protocol that ``augmented_encoder`` knows."""
    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir",)
    """Settings that do not decide a result: where the data lies (their checksum is on record), which sets are run."""

    def __post_init__(self) -> None:  # noqa: B027 (a subclass may have nothing to check)
        """Check the settings: raise ``UserError`` or ``ValueError``. A subclass calls its parent's before its own."""

    @abc.abstractmethod
    def datasets(self) -> Sequence[str]:
        """Return the names of the data sets of this instance, cheaply. Raises ``UserError`` on bad settings."""

    @abc.abstractmethod
    def load(self, dataset: str) -> Data:
        """Return one data set, split. The same settings always give the same splits. Raises ``UserError``."""

    def load_for(self, dataset: str, backbone: Any) -> Data:
        """Return the data set as a backbone can take it: ``load``, but for a task of which it depends on the backbone
        what can be taken at all."""
        return self.load(dataset)

    @abc.abstractmethod
    def objective(self, dataset: str, classes: Sequence[str]) -> Objective:
        """Return what is learnt on one of the data sets, which has these ``classes``."""

    def encoder(self, backbone: Any) -> Callable[[Any], Any]:
        """Return the function from one raw example to what the backbone takes (without the batch dimension)."""
        raise NotImplementedError(f"{type(self).__name__} has neither an encoder nor windows")

    def augmented_encoder(self, backbone: Any, augmentation: Augmentation) -> Callable[[Any], Any]:
        """Return the encoder of training examples under one of the ``augmentations`` but "none".

        It draws from PyTorch's random numbers of the CPU, and from nothing else: who calls it seeds them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no encoder that augments")

    def augmented_windows(self, backbone: Any, augmentation: Augmentation) -> Callable[[Any, Any], Sequence[Window]]:
        """Return the function from a training example and its target to the one window, by ``augmented_encoder``."""
        return _OneWindow(self.augmented_encoder(backbone, augmentation))

    def windows(self, backbone: Any) -> Callable[[Any, Any], Sequence[Window]]:
        """Return the function from one raw example and its target to the windows on it: one, by ``encoder``."""
        return _OneWindow(self.encoder(backbone))

    def credit(self, dataset: str) -> str:
        """Return whose the images of a data set are, and by which licence a page may show some of its test data; ""
        where none says that it may."""
        return ""

    def showcase(self, dataset: str, test: Split) -> Showcase:
        """Return some test examples that a page shows, of a data set with a ``credit``. Which they are depends on
        nothing that was answered."""
        raise NotImplementedError(f"{type(self).__name__} has a credit, and nothing to show")

    def fetch(self, folder: Path | None, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Get the data sets of these names, or all, into ``folder`` or the cache, and yield each name and what came of
        it. What is there already is verified, not fetched. Raises ``UserError`` for a task that has nothing to fetch.
        """
        raise UserError("this task has nothing to fetch: its data are a folder of yours, or come when they are needed")


@dataclass(frozen=True)
class _OneWindow:
    """Makes the one window of an example by an encoder. Processes that read data may get it pickled."""

    encode: Callable[[Any], Any]

    def __call__(self, example: Any, target: Any) -> list[Window]:
        return [Window(self.encode(example), target)]
