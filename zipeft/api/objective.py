"""What is learnt on a data set: a head, its loss, what is predicted, and how predictions are scored.

The objectives themselves are in ``zipeft.objectives``. This module imports no torch: tasks, which are listed without
it, import this.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.data import Window


@dataclass(frozen=True)
class TrivialAnswer:
    """An answer that reads no example, or hardly: what a table's scores have to be held against.

    ``words`` say which; ``scores`` takes the windows of each example of a split, and its targets.
    """

    words: str
    scores: Callable[[Iterable[Sequence[Window]], Sequence[Any]], dict[str, float]]


@dataclass(frozen=True)
class Objective(abc.ABC):
    """The objective of a data set. Its fields are what it has to know of the data (the scale of a rating, say).

    A backbone that it is handed has what it reads. It is Any here, and what a subclass says it is.
    """

    metric: ClassVar[str]
    """Which score selects and ranks: a fraction, 1.0 is perfect."""

    max_new_tokens: ClassVar[int] = 0
    """How many tokens a language model generates, at most, for each test example; 0 where it generates none."""

    def read(self, backbone: Any, model: nn.Module, inputs: Any) -> Tensor:
        """Return what the head takes of a batch of inputs: by default a backbone's features (batch, width)."""
        return backbone.features(model, inputs)

    def prepare(self, backbone: Any, model: nn.Module, classes: Sequence[str]) -> None:  # noqa: B027
        """Tell a model, in place and before a method is applied to it, what it has to know of the classes."""

    def probed(self) -> Objective:
        """Return the objective of a linear probe: the same, where a head is learnt in any case.

        Raises: ``UserError`` where no head that is learnt can do what the objective asks.
        """
        return self

    @abc.abstractmethod
    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        """Return a fresh head on features of ``width``. It always trains."""

    @abc.abstractmethod
    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the training loss of a batch of windows, a scalar.

        It is a mean over the windows, even where a window has many labels: processes that share a batch weigh their
        losses by windows.
        """

    @abc.abstractmethod
    def predict(self, outputs: Tensor) -> Sequence[Any]:
        """Return one prediction a window of the batch, in memory of the CPU."""

    @contextmanager
    def testing(self, backbone: Any, model: nn.Module) -> Iterator[None]:
        """Return a context in which a model is tested: it may be told what it must not know while it trains."""
        yield

    def with_generated(
        self, predictions: Sequence[Any], generated: Sequence[list[int]], backbone: Any
    ) -> Sequence[Any]:
        """Return predictions for test windows with what the model generated for each, of ``max_new_tokens`` at most."""
        raise NotImplementedError(f"{type(self).__name__} asks for generated tokens and does not read them")

    def merge(self, windows: Sequence[Window], predictions: Sequence[Any]) -> Any:
        """Return the prediction for an example from those for its windows."""
        return predictions[0]

    def choose(self, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """Return what has to be chosen on validation data to make predictions final, such as a threshold.

        It is recorded among the validation scores.
        """
        return {}

    def decide(self, predictions: Sequence[Any], chosen: Mapping[str, float]) -> Sequence[Any]:
        """Return final predictions by what ``choose`` returned."""
        return predictions

    @abc.abstractmethod
    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """Return named scores over a whole split; ``metric`` is among them."""

    def item_scores(self, predictions: Sequence[Any], targets: Sequence[Any]) -> list[float]:
        """Return one score an example, whose mean is ``metric``: intervals then cover the choice of test examples.

        Empty where the metric is no mean over examples, as a correlation is.
        """
        return []

    def trivial(self, train: Sequence[Any], classes: Sequence[str]) -> TrivialAnswer | None:
        """Return the trivial answer that the training targets speak for; None where no answer is trivial."""
        return None

    def always(self, words: str, prediction: Any) -> TrivialAnswer:
        """Return the answer that is the same final prediction for every example."""
        return TrivialAnswer(words, lambda windows, targets: self.score([prediction] * len(targets), targets))

    def record(self, value: Any) -> Any:
        """Return what a result file keeps of a prediction or a target, as JSON; no text of the data."""
        return value
