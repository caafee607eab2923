"""One label an example, scored by accuracy, or for texts by other scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zipeft import metrics
from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.errors import require

if TYPE_CHECKING:
    from torch import Tensor, nn


MAJORITY = "majority class"


def by_frequency(labels: Sequence[int]) -> list[int]:
    """Return the labels that occur, the most frequent first; of equally frequent ones the lowest."""
    counts = Counter(map(int, labels))
    return sorted(counts, key=lambda label: (-counts[label], label))


@dataclass(frozen=True)
class Classification(Objective):
    """One label an example: linear head, cross-entropy, accuracy."""

    metric: ClassVar[str] = "accuracy"

    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        from torch import nn

        return nn.Linear(width, len(classes))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(outputs, targets)

    def predict(self, outputs: Tensor) -> list[int]:
        return outputs.argmax(-1).tolist()

    def score(self, predictions: Sequence[int], targets: Sequence[int]) -> dict[str, float]:
        from sklearn.metrics import accuracy_score

        return {"accuracy": float(accuracy_score(targets, predictions))}

    def item_scores(self, predictions: Sequence[int], targets: Sequence[int]) -> list[float]:
        return [float(prediction == target) for prediction, target in zip(predictions, targets, strict=True)]

    def trivial(self, train: Sequence[int], classes: Sequence[str]) -> TrivialAnswer | None:
        """Return that everything is of the most frequent class, the first of several."""
        return self.always(MAJORITY, by_frequency(train)[0])


@dataclass(frozen=True)
class TextClassification(Classification):
    """One label an example, with other scores than accuracy, or more: those of ``zipeft.metrics``."""

    scores: tuple[str, ...] = ("accuracy",)
    """Names of the scores to report. The first one selects and ranks."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.scores if name not in metrics.METRICS]
        require(bool(self.scores) and not unknown, f"scores must be some of {', '.join(metrics.METRICS)}")

    @property
    def metric(self) -> str:  # type: ignore[override]  # of others it is one for all instances
        return self.scores[0]

    def score(self, predictions: Sequence[int], targets: Sequence[int]) -> dict[str, float]:
        return metrics.compute(self.scores, predictions, targets)

    def item_scores(self, predictions: Sequence[int], targets: Sequence[int]) -> list[float]:
        return super().item_scores(predictions, targets) if self.metric == "accuracy" else []

    def trivial(self, train: Sequence[int], classes: Sequence[str]) -> TrivialAnswer | None:
        """Return that everything is of the class that scores highest so; as a rule it is the most frequent one, but F1
        asks for class 1."""
        if self.metric == "accuracy":
            return super().trivial(train, classes)
        majority, *others = by_frequency(train)
        best = max((majority, *others), key=lambda label: self.score([label] * len(train), train)[self.metric])
        return self.always(MAJORITY if best == majority else f"always class {best}", best)
