"""A label a word, scored by F1 over spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft import metrics
from zipeft.api.data import NO_LABEL
from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.errors import require
from zipeft.metrics.tags import OUTSIDE

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.backbone import Backbone
    from zipeft.api.data import Window


@dataclass(frozen=True)
class SequenceLabelling(Objective):
    """One label a word: linear head on tokens, cross-entropy, micro F1 of the spans that the labels mark.

    Targets of examples are label ids, one a word. Those of windows are (tokens,), -100 where a token has no label, and
    ``Window.origin`` holds for every token the index of the word that is read there, or -1.
    """

    labels: tuple[str, ...]
    """Tags by their ids, "O" among them; see ``zipeft.metrics.tags``."""

    metric: ClassVar[str] = "f1"

    def __post_init__(self) -> None:
        require(OUTSIDE in self.labels, f"labels must hold {OUTSIDE!r}, the tag of a word outside all spans")

    def read(self, backbone: Backbone, model: nn.Module, inputs: Any) -> Tensor:
        return backbone.tokens(model, inputs)

    def head(self, classes: Sequence[str], width: int) -> nn.Linear:
        from torch import nn

        return nn.Linear(width, len(classes))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of outputs (batch, tokens, labels) for targets (batch, tokens).

        It is a mean over the tokens of a window that have a label, then over the windows: short ones count as much as
        long ones, and one without any label counts as perfect.
        """
        from torch.nn import functional

        losses = functional.cross_entropy(outputs.transpose(1, 2), targets, ignore_index=NO_LABEL, reduction="none")
        labelled = (targets != NO_LABEL).sum(1).clamp(min=1)
        return (losses.sum(1) / labelled).mean()

    def predict(self, outputs: Tensor) -> list[list[int]]:
        """Return the label of every token, those of padding included."""
        return outputs.argmax(-1).tolist()

    def merge(self, windows: Sequence[Window], predictions: Sequence[Sequence[int]]) -> list[int]:
        """Return the label of every word up to the last one that is read in a window.

        A word that is read in several windows has its label from the one whose nearer end is farthest from it, of
        equals the first: there the model sees most of what is around it. A word that is read in none is outside all
        spans.
        """
        best: dict[int, tuple[int, int]] = {}
        for window, labels in zip(windows, predictions, strict=True):
            last = len(window.origin) - 1
            for at, word in enumerate(window.origin):
                distance = min(at, last - at)
                if word >= 0 and (word not in best or distance > best[word][0]):
                    best[word] = distance, labels[at]
        outside = self.labels.index(OUTSIDE)
        return [best[word][1] if word in best else outside for word in range(max(best, default=-1) + 1)]

    def score(self, predictions: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, float]:
        """Return F1, precision and recall. Words after the last predicted one count as outside all spans."""
        pairs = zip(predictions, targets, strict=True)
        predicted = [self._tags(labels) + [OUTSIDE] * (len(target) - len(labels)) for labels, target in pairs]
        return metrics.compute(("span_f1",), predicted, [self._tags(target) for target in targets])

    def trivial(self, train: Sequence[Sequence[int]], classes: Sequence[str]) -> TrivialAnswer:
        return self.always(f"always {OUTSIDE}", [])  # words after the last predicted one are outside all spans

    def _tags(self, labels: Sequence[Any]) -> list[str]:
        return [self.labels[label] for label in labels]
