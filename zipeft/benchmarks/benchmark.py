"""What every benchmark has: questions on pictures, and results from the answers to them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.data import Picture
from zipeft.api.task import PublishedTable
from zipeft.errors import UserError
from zipeft.images.reading import BrokenImage
from zipeft.vqa.question import VisualQuestion

if TYPE_CHECKING:
    from PIL.Image import Image

    from zipeft.objectives.options import Choice


@dataclass(frozen=True)
class Results:
    """What a model scores. ``table`` has its header first; ``totals`` holds, by the columns of the benchmark's
    published tables, what stands beside them, None where it cannot be told; ``notes`` are sentences on both;
    ``scores`` is all of it for a JSON file."""

    table: Sequence[Sequence[str]]
    totals: Mapping[str, float | None]
    notes: Sequence[str]
    scores: Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark(abc.ABC):
    """Questions that were read from files; ``checksum`` is a SHA-256 of all that is asked and right, pictures too."""

    questions: Sequence[VisualQuestion]
    checksum: str

    letters: ClassVar[bool]
    """Whether a question is put with its options, and answered by a letter, or by an option's own words."""
    counts: ClassVar[str]
    """Which answer the benchmark's own scores are of, as a sentence."""

    @classmethod
    @abc.abstractmethod
    def read(cls, path: Path) -> Benchmark:
        """Read the benchmark's files. Raises ``UserError`` that names the one that is malformed."""

    @classmethod
    @abc.abstractmethod
    def published(cls) -> Sequence[PublishedTable]:
        """Return the results that others published."""

    @abc.abstractmethod
    def results(self, choices: Sequence[Choice]) -> Results:
        """Return what the answers to ``questions``, in their order, score; each has been written, too."""


def picture(name: str, read: Callable[[], Image]) -> Picture:
    """Return a picture of a benchmark, of which none may be left out; ``name`` says where it lies."""

    def whole() -> Image:
        try:
            return read()
        except BrokenImage as error:
            raise UserError(f"{name} does not decode ({error.reason}): get the benchmark's files again") from error

    return Picture(name, whole)
