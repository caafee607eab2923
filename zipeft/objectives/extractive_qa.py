"""Answers that are spans of a context: their head and loss, and how windows are read back into an answer.

As BERT (Devlin et al. 2019, section 4.2 and 4.3) does it: one vector scores every token as the start of the answer and
one as its end; a span scores the sum; "no answer" is the span of the first token alone, and is given where the best
span does not score more than a threshold above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from zipeft import metrics
from zipeft.api.backbone import Backbone
from zipeft.api.data import Window
from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.metrics.answers import best_f1

PADDED = -1e4
"""The logit of a padded token: e to its power is zero in every precision, and no precision overflows at it."""

NOTHING = -1e9
"""Scores an example in whose context no token can be an answer."""

THRESHOLD = "no_answer_threshold"


class Answers(NamedTuple):
    """Gold answers to a question: their texts, and where each starts in its context. None where it has no answer."""

    texts: tuple[str, ...]
    starts: tuple[int, ...]


class Origin(NamedTuple):
    """What a window shows. ``offsets`` (tokens, 2), int32: where each token starts and ends in the context, in
    characters; -1 for tokens that are not of the context or stand for none of its characters."""

    context: str
    offsets: np.ndarray


class Span(NamedTuple):
    """A predicted answer: the characters ``start`` to ``end`` of the context, the text there, the score of this span
    and that of no answer."""

    start: int
    end: int
    text: str
    score: float
    null: float


class SpanHead(nn.Linear):
    """Start and end logits (batch, tokens, 2) of tokens (batch, tokens, width).

    A batch does not say which of its tokens are padding, but there backbones give exact zeros, as no real token has.
    Those get logits that take no part in a softmax, so that padding changes neither the loss nor a prediction.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens).masked_fill((tokens == 0).all(-1, keepdim=True), PADDED)


@dataclass(frozen=True)
class Spans(Objective):
    """Extractive question answering: the span of the context that answers, or none. SQuAD's F1 and exact match.

    Targets of windows are pairs (start token, end token), both inclusive; (0, 0) where the window does not hold the
    whole answer. Predictions of examples are a ``Span``, final ones may be None for "no answer". Whether that is ever
    predicted depends on the validation data: without unanswerable questions there (SQuAD 1.1) a span always is.
    """

    n_best: int = 20
    """So many starts and so many ends of each window are tried with each other."""

    max_answer_length: int = 30
    """Tokens of the longest answer."""

    metric: ClassVar[str] = "f1"

    def read(self, backbone: Backbone, model: nn.Module, inputs: Any) -> Tensor:
        return backbone.tokens(model, inputs)

    def head(self, classes: Sequence[str], width: int) -> SpanHead:
        return SpanHead(width)

    def loss(self, outputs: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Return the loss, a scalar: the mean over windows of the cross-entropies of start and of end."""
        starts, ends = targets
        return (functional.cross_entropy(outputs[..., 0], starts) + functional.cross_entropy(outputs[..., 1], ends)) / 2

    def predict(self, outputs: Tensor) -> list[np.ndarray]:
        """Return start and end logits (tokens, 2) of each window, float32; those of padding are cut by ``merge``."""
        return list(outputs.detach().float().cpu().numpy())

    def merge(self, windows: Sequence[Window], predictions: Sequence[np.ndarray]) -> Span:
        """Return the span with the highest sum of logits over all windows of an example; of equals the first.

        No answer has the sum of the first token's logits, the lowest over windows: each window that shows no answer is
        sure of that, so the one with an answer has to say.
        """
        null = min(float(logits[0].sum()) for logits in predictions)
        best = Span(0, 0, "", NOTHING, null)
        for window, logits in zip(windows, predictions, strict=True):
            context, offsets = window.origin
            found = self._best(logits[: len(offsets)], offsets)
            if found is not None and found[2] > best.score:
                start, end = int(offsets[found[0], 0]), int(offsets[found[1], 1])
                best = Span(start, end, context[start:end], found[2], null)
        return best

    def _best(self, logits: np.ndarray, offsets: np.ndarray) -> tuple[int, int, float] | None:
        """Return the first and last token of a window's best span and its score; None if it shows no context.

        Tried are the ``n_best`` starts with the ``n_best`` ends and, where none of these pairs is a span of allowed
        length, all starts with all ends.
        """
        inside = np.flatnonzero(offsets[:, 0] >= 0)
        if not len(inside):
            return None
        ranked = np.argsort(-logits[inside], axis=0, kind="stable")
        for count in (self.n_best, len(inside)):
            starts, ends = inside[np.sort(ranked[:count, 0])], inside[np.sort(ranked[:count, 1])]
            length = ends - starts[:, None] + 1
            scores = logits[starts, 0][:, None] + logits[ends, 1]
            scores[(length < 1) | (length > self.max_answer_length)] = -np.inf
            start, end = np.unravel_index(scores.argmax(), scores.shape)
            if scores[start, end] > -np.inf:
                break
        return int(starts[start]), int(ends[end]), float(scores[start, end])

    def choose(self, predictions: Sequence[Span], targets: Sequence[Answers]) -> dict[str, float]:
        """Return the threshold that gives the highest F1: no answer where it scores more than that above the best span.

        Of thresholds between the same two questions the middle one, of equally good ones the lowest. Empty where every
        question has an answer.
        """
        if all(target.texts for target in targets):
            return {}
        margins = np.array([prediction.null - prediction.score for prediction in predictions])
        gains = np.array(
            [
                best_f1(prediction.text, target.texts) - best_f1("", target.texts)
                for prediction, target in zip(predictions, targets, strict=True)
            ]
        )
        order = np.argsort(margins)
        margins = margins[order]
        total = np.concatenate([[0.0], np.cumsum(gains[order])])  # of the first 0, 1, 2, ... of them answered
        edges = np.concatenate([[margins[0] - 1], margins, [margins[-1] + 1]])
        distinct = np.diff(edges) > 0  # equal margins are answered together or not at all
        best = np.flatnonzero(distinct)[total[distinct].argmax()]
        return {THRESHOLD: float((edges[best] + edges[best + 1]) / 2)}

    def decide(self, predictions: Sequence[Span], chosen: Mapping[str, float]) -> list[Span | None]:
        threshold = chosen.get(THRESHOLD, np.inf)
        return [None if span.null - span.score > threshold else span for span in predictions]

    def score(self, predictions: Sequence[Span | None], targets: Sequence[Answers]) -> dict[str, float]:
        """Return F1 and exact match, each the mean over questions of the best over gold answers.

        Where some questions have no answer: also F1 of those that have one, and how many of the others got none.
        """
        golds = [list(target.texts) for target in targets]
        scores = metrics.compute(["squad"], list(map(_text, predictions)), golds)
        answerable = np.array(list(map(bool, golds)))
        if answerable.any() and not answerable.all():
            f1 = np.array(self.item_scores(predictions, targets))
            scores["has_answer_f1"] = float(f1[answerable].mean())
            scores["no_answer_accuracy"] = float(f1[~answerable].mean())
        return scores

    def item_scores(self, predictions: Sequence[Span | None], targets: Sequence[Answers]) -> list[float]:
        """Return the F1 of every question."""
        pairs = zip(predictions, targets, strict=True)
        return [best_f1(_text(prediction), target.texts) for prediction, target in pairs]

    def trivial(self, train: Sequence[Answers], classes: Sequence[str]) -> TrivialAnswer:
        """Return "no answer", or, where every question that is learnt has one, the first sentence of the context."""
        if not all(target.texts for target in train):
            return self.always("no answer", None)

        def scores(windows: Iterable[Sequence[Window]], targets: Sequence[Answers]) -> dict[str, float]:
            return self.score([first_sentence(own[0].origin.context) for own in windows], targets)

        return TrivialAnswer("first sentence", scores)

    def record(self, value: Span | Answers | None) -> Any:
        """Return where a predicted span starts and ends, None for no answer, and a list of such for gold answers."""
        if isinstance(value, Answers):
            return [[start, start + len(text)] for start, text in zip(value.starts, value.texts, strict=True)]
        return None if value is None else [value.start, value.end]


def first_sentence(context: str) -> Span:
    """Return the span from the start of a context to its first mark that ends a sentence."""
    text = re.split(r"(?<=[.!?])\s", context, maxsplit=1)[0]
    return Span(0, len(text), text, 0.0, NOTHING)


def _text(prediction: Span | None) -> str:
    return "" if prediction is None else prediction.text
