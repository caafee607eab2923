"""What all metrics share: they compute in memory, and leave no file behind."""

from __future__ import annotations

import abc
import inspect
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import evaluate
from datasets import Features


class Metric(evaluate.Metric, abc.ABC):  # type: ignore[misc]  # evaluate comes without types
    """A metric of predictions against references, one of each an example.

    A subclass says what they are, in the terms of ``datasets``, and computes named scores from two lists of them. They
    stay in memory, unlike those of metrics from the hub, so that several processes may compute the same metric at once.
    """

    prediction: ClassVar[Any]
    reference: ClassVar[Any]

    def __init__(self) -> None:
        # The constructor makes a folder for data, which by default is in the user's home, even if it stays empty.
        with TemporaryDirectory(prefix="zipeft-") as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=inspect.getdoc(type(self)) or "",
            citation="",
            features=Features({"predictions": self.prediction, "references": self.reference}),
        )

    @abc.abstractmethod
    def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
        """Return the scores by name."""
