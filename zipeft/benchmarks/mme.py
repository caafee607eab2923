"""MME (Fu et al. 2023, arXiv 2306.13394): two questions on each image, to be answered by yes or no, in 14 subtasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from zipeft.api.published_results import read_published
from zipeft.api.task import PublishedTable
from zipeft.benchmarks.benchmark import Benchmark, Results
from zipeft.benchmarks.mme_folder import OPTIONS, Asked, checksum_of, read_folder
from zipeft.formatting import DASH, listing, percent

if TYPE_CHECKING:
    from zipeft.objectives.options import Choice

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
SUBTASKS = (*PERCEPTION, *COGNITION)
IMAGES = 1187
"""Images of MME's release, in all subtasks."""

TOTALS = {"perception": PERCEPTION, "cognition": COGNITION}
"""What is summed up, of 200 a subtask: 2,000 and 800."""

Pair = tuple[str, str]
"""The answers to the two questions on an image."""


HEADER = (
    *("subtask", "images", "accuracy", "accuracy+", "score", "other"),
    *("likelier: accuracy", "accuracy+", "score"),
)


@dataclass(frozen=True)
class SubtaskScore:
    """Fractions of questions, and of images both of whose questions are right; ``other`` counts answers that are
    neither yes nor no; ``score`` is MME's, of 200."""

    images: int
    accuracy: float
    accuracy_plus: float
    other: int
    score: float

    @classmethod
    def of(cls, answers: Sequence[Pair], right: Sequence[Pair]) -> SubtaskScore:
        """Return the score of answers, "yes", "no" or "other", to the two questions on each image."""
        hits = [[said == gold for said, gold in zip(*pairs, strict=True)] for pairs in zip(answers, right, strict=True)]
        accuracy, plus = fmean(map(fmean, hits)), fmean(map(all, hits))
        other = sum(pair.count("other") for pair in answers)
        return cls(len(hits), accuracy, plus, other, 100 * (accuracy + plus))

    def cells(self) -> tuple[str, str, str]:
        return percent(self.accuracy), percent(self.accuracy_plus), f"{self.score:.1f}"


@dataclass(frozen=True)
class MME(Benchmark):
    """MME's questions, the two on one image next to each other."""

    images: Sequence[Asked]

    letters: ClassVar[bool] = False
    counts: ClassVar[str] = (
        "The score is of the written answers, read as MME's own script reads them; one answer to everything scores 50 "
        "a subtask."
    )

    @classmethod
    def read(cls, path: Path) -> MME:
        images = read_folder(path, SUBTASKS)
        return cls([question for image in images for question in image.questions], checksum_of(path, images), images)

    @classmethod
    def published(cls) -> Sequence[PublishedTable]:
        return read_published(Path(__file__).with_name("mme.toml"))

    def results(self, choices: Sequence[Choice]) -> Results:
        written = self._scores([yes_or_no(choice.written or "") for choice in choices])
        likelier = self._scores([OPTIONS[choice.index].lower() for choice in choices])
        totals, by_likelihood = _totals(written), _totals(likelier)
        rows = [
            (name, f"{own.images:,}", *own.cells(), f"{own.other:,}", *likelier[name].cells())
            for name, own in written.items()
        ]
        for name, parts in TOTALS.items():
            sums = (_shown(totals[name]), _shown(by_likelihood[name]))
            rows.append((f"{name}, of {200 * len(parts):,}", *("",) * 3, sums[0], *("",) * 3, sums[1]))
        return Results(
            [HEADER, *rows],
            {**{name: own.score for name, own in written.items()}, **totals},
            _notes(written),
            {
                "written": {**{name: asdict(own) for name, own in written.items()}, **totals},
                "likelihood": {**{name: asdict(own) for name, own in likelier.items()}, **by_likelihood},
                "missing": [name for name in SUBTASKS if name not in written],
            },
        )

    def _scores(self, answers: Sequence[str]) -> dict[str, SubtaskScore]:
        """Return the score of each subtask that is there, in MME's order, for answers to all questions."""
        pairs = list(zip(answers[::2], answers[1::2], strict=True))
        places = {name: [at for at, image in enumerate(self.images) if image.subtask == name] for name in SUBTASKS}
        return {
            name: SubtaskScore.of([pairs[at] for at in own], [self.images[at].answers for at in own])
            for name, own in places.items()
            if own
        }


def yes_or_no(written: str) -> str:
    """Return "yes", "no" or "other" for a written answer, by its first four characters as MME's script does it: yes
    if they hold that word in any case, else no if they hold that."""
    beginning = written[:4].lower()
    return next((word for word in ("yes", "no") if word in beginning), "other")


def _totals(scores: Mapping[str, SubtaskScore]) -> dict[str, float | None]:
    """Return the sums, None where a subtask is missing."""
    return {
        name: sum(scores[part].score for part in parts) if scores.keys() >= set(parts) else None
        for name, parts in TOTALS.items()
    }


def _notes(scores: Mapping[str, SubtaskScore]) -> list[str]:
    notes = []
    if missing := [name for name in SUBTASKS if name not in scores]:
        notes.append(f"There is no total where a subtask is missing, as {listing(missing)}.")
    if (there := sum(own.images for own in scores.values())) != IMAGES:
        notes.append(f"Not to be compared: these are {there:,} images, and MME's release has {IMAGES:,}.")
    return notes


def _shown(score: float | None) -> str:
    return DASH if score is None else f"{score:.1f}"
