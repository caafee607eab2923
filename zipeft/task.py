"""What a task plug-in provides: data sets with splits, a head, a loss, a score, and its presets.

Plug-ins are named in the entry-point group ``zipeft.tasks``. This module imports no torch, and a plug-in
should import its heavy libraries inside its methods, so that ``zipeft ls`` stays instant.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.test_lock import SealedSplit, TestLocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from zipeft.backbone import Backbone


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
class Data:
    """One data set, split. ``source`` says in a short phrase where it came from ("carrier qtawesome 1.4.2",
    "folder CUB_200_2011"); ``checksum`` is a SHA-256 over what decides its content; ``note`` says in one sentence
    what was taken and how it was split.

    ``test`` is given as a ``Split`` and sealed at once (``zipeft.test_lock``). Raises ``TestLocked`` if it shares
    examples with the other splits: who selects on validation data would select on test data.
    """

    name: str
    classes: Sequence[str]
    train: Split
    validation: Split
    test: Split | SealedSplit
    source: str
    checksum: str
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.test, SealedSplit):
            return
        for split in ("train", "validation"):
            if shared := set(self.test.names).intersection(getattr(self, split).names):
                raise TestLocked(
                    f"{self.name}: {len(shared)} examples are in the {split} split and in the test split, such as "
                    f"{min(shared)!r}: a choice made on them would be made on test data"
                )
        object.__setattr__(self, "test", SealedSplit(self.name, self.test))


@dataclass(frozen=True)
class Preset:
    """A named size of the task: settings of the task (``task``), of the training (``protocol``), and the methods
    that run when none are named (``methods``; empty means all)."""

    task: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
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
class Task(abc.ABC):
    """A family of data sets with one protocol. An instance's fields are settings of the run.

    The first line of a subclass's docstring is its description in ``zipeft ls``.
    """

    data_dir: Path | None = None
    """A folder of the user's data; None stands for the embedded default."""

    modality: ClassVar[str]
    metric: ClassVar[str] = "accuracy"
    presets: ClassVar[Mapping[str, Preset]]
    published: ClassVar[Sequence[PublishedTable]] = ()
    unrecorded: ClassVar[tuple[str, ...]] = ("data_dir",)
    """Settings that do not decide a result: where the data lies (their checksum is on record), which sets are run."""

    @abc.abstractmethod
    def datasets(self) -> Sequence[str]:
        """Return the names of the data sets of this instance, cheaply. Raises ``UserError`` on bad settings."""

    @abc.abstractmethod
    def load(self, dataset: str) -> Data:
        """Return one data set, split. The same settings always give the same splits. Raises ``UserError``."""

    @abc.abstractmethod
    def encoder(self, backbone: Backbone) -> Callable[[Any], Any]:
        """Return the function from one raw example to what the backbone takes (without the batch dimension)."""

    @abc.abstractmethod
    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        """Return a fresh head on features of ``width``. It always trains."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean training loss of a batch, a scalar."""

    @abc.abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Return one prediction an example (batch,)."""

    @abc.abstractmethod
    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """Return named scores over a whole split; ``metric`` is among them."""

    def item_scores(self, predictions: Sequence[Any], targets: Sequence[Any]) -> list[float]:
        """Return one score an example, whose mean is ``metric``: intervals then cover the choice of test examples.

        Empty where the metric is no mean over examples, as a correlation is.
        """
        return []


@dataclass(frozen=True)
class Classification(Task):
    """A task with one label an example: linear head, cross-entropy, accuracy."""

    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        from torch import nn

        return nn.Linear(width, len(classes))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(-1)

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score

        return {"accuracy": float(accuracy_score(targets, predictions))}

    def item_scores(self, predictions: Sequence[Any], targets: Sequence[Any]) -> list[float]:
        return [float(prediction == target) for prediction, target in zip(predictions, targets, strict=True)]
