"""Metrics over a whole split, each an ``evaluate.Metric`` that needs no hub.

This package imports nothing heavy: ``compute`` loads a metric when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pkgutil import resolve_name
from typing import Any

METRICS = {
    "accuracy": "zipeft.metrics.classification:Accuracy",
    "f1": "zipeft.metrics.classification:F1",
    "matthews": "zipeft.metrics.classification:Matthews",
    "pearson": "zipeft.metrics.correlation:Pearson",
    "spearman": "zipeft.metrics.correlation:Spearman",
    "squad": "zipeft.metrics.squad:SquadMetric",
    "span_f1": "zipeft.metrics.span_f1:SpanF1",
    "rouge_l": "zipeft.metrics.rouge:RougeL",
    "exact_match": "zipeft.metrics.exact_match:ExactMatch",
}


def compute(names: Iterable[str], predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Return the scores of all ``METRICS`` that are named, in their order. Raises ``KeyError`` for an unknown name."""
    scores: dict[str, float] = {}
    for name in names:
        metric = resolve_name(METRICS[name])()
        scores |= metric.compute(predictions=list(predictions), references=list(references))
    return scores
