"""F1 of spans, for sequence labelling."""

from __future__ import annotations

from typing import ClassVar

from datasets import Value

from zipeft.metrics.base import Metric
from zipeft.metrics.tags import Span, spans


class SpanF1(Metric):
    """``f1``, ``precision`` and ``recall`` of typed spans, 0 to 1, over all sequences and kinds together (micro).

    A predicted span is right if a span of the reference has the same start, end and kind, as in the shared task of
    CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, arXiv cs/0306050). Predictions and references are lists of tags, see
    ``zipeft.metrics.tags``. All three are 0 where no span is right. Raises ``ValueError`` if a sequence has more or
    fewer tags than its reference.
    """

    prediction: ClassVar = [Value("string")]
    reference: ClassVar = [Value("string")]

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            if len(prediction) != len(reference):
                raise ValueError(f"sequence {index} has {len(prediction)} tags for {len(reference)} words")
        predicted, right = _all(predictions), _all(references)
        shared = len(predicted & right)
        return {
            "f1": 2 * shared / max(1, len(predicted) + len(right)),
            "precision": shared / max(1, len(predicted)),
            "recall": shared / max(1, len(right)),
        }


def _all(sequences: list[list[str]]) -> set[tuple[int, Span]]:
    return {(index, span) for index, tags in enumerate(sequences) for span in spans(tags)}
