"""Classes that are known by their names: an image goes to the class whose text it matches best, as in CLIP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.errors import UserError, require
from zipeft.objectives.classification import Classification

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.backbone import ImageTextBackbone


CHANCE = "chance"


@dataclass(frozen=True)
class Matching(Classification):
    """One label an image: cross-entropy and accuracy over the matches with the classes' texts; no head of its own."""

    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Texts of a class; its name, with spaces for underscores, takes the place of {}."""

    def __post_init__(self) -> None:
        require(bool(self.templates), "templates are missing: give one or more, such as 'a photo of a {}.'")
        for template in self.templates:
            require(template.count("{}") == 1, f"template {template!r}: write {{}} once, where the class's name goes")

    def prepare(self, backbone: ImageTextBackbone, model: nn.Module, classes: Sequence[str]) -> None:
        backbone.name_classes(model, classes, self.templates)

    def read(self, backbone: ImageTextBackbone, model: nn.Module, inputs: Tensor) -> Tensor:
        return backbone.matches(model, inputs)

    def probed(self) -> Objective:
        """Return classification by a linear head on the image's features."""
        return Classification()

    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        """Return a head that changes nothing: what matches with the texts are the logits."""
        from torch import nn

        return nn.Identity()

    def trivial(self, train: Sequence[int], classes: Sequence[str]) -> TrivialAnswer:
        """Return chance, since no class is seen more often than another where each has its shots: what a guess among
        all classes scores on average."""
        return TrivialAnswer(CHANCE, lambda windows, targets: {"accuracy": 1 / len(classes)})


@dataclass(frozen=True)
class BaseToNovel(Matching):
    """Base-to-novel generalisation (CoCoOp, arXiv 2203.05557): trained on the first half of the classes, tested on all.

    Test images of base classes are matched with the base classes' texts, those of novel classes with the novel classes'
    texts. ``base_accuracy`` and ``novel_accuracy`` are the two accuracies, ``harmonic_mean`` is 2bn / (b + n). On
    validation data, which hold base classes alone, it is their accuracy.
    """

    classes: tuple[str, ...] = ()
    """All classes, the base classes first."""

    metric: ClassVar[str] = "harmonic_mean"

    @property
    def base(self) -> int:
        """How many of the classes are base classes: the first half, and the one in the middle."""
        return -(-len(self.classes) // 2)

    def prepare(self, backbone: ImageTextBackbone, model: nn.Module, classes: Sequence[str]) -> None:
        """Name the base classes alone: nothing of the novel ones is known while a method trains."""
        backbone.name_classes(model, self.classes[: self.base], self.templates)

    def probed(self) -> Objective:
        raise UserError(
            "a linear probe knows only the classes that it is trained on: leave out the method, or take fewshot"
        )

    @contextmanager
    def testing(self, backbone: ImageTextBackbone, model: nn.Module) -> Iterator[None]:
        """Name the novel classes too, as long as this context lasts."""
        backbone.name_classes(model, self.classes, self.templates)
        try:
            yield
        finally:
            backbone.name_classes(model, self.classes[: self.base], self.templates)

    def predict(self, outputs: Tensor) -> list[Any]:
        """Return for each image which base class and, if they are named, which novel class it matches best."""
        base = outputs[:, : self.base].argmax(-1).tolist()
        if outputs.shape[1] == self.base:
            return [(guess, None) for guess in base]
        novel = outputs[:, self.base :].argmax(-1).tolist()
        return [(guess, self.base + other) for guess, other in zip(base, novel, strict=True)]

    def score(self, predictions: Sequence[Any], targets: Sequence[int]) -> dict[str, float]:
        base, novel = (fmean(right) if right else None for right in self._right(predictions, targets))
        there = {"base_accuracy": base, "novel_accuracy": novel}
        scores = {name: score for name, score in there.items() if score is not None}
        return {"harmonic_mean": harmonic_mean(*scores.values()), **scores}

    def item_scores(self, predictions: Sequence[Any], targets: Sequence[int]) -> list[float]:
        """Return pseudo-values, whose mean is the harmonic mean and which vary as it does with the choice of images.

        They are those of the infinitesimal jackknife (Efron 1982, chapter 6): an image's part in the linearised score.
        """
        right = self._right(predictions, targets)
        if not all(right):
            return []
        base, novel = map(fmean, right)
        score, total = harmonic_mean(base, novel), sum(map(len, right))
        both = (base + novel) ** 2 or 1.0
        slopes = (2 * novel**2 / both, 2 * base**2 / both)  # of the harmonic mean, in base and in novel
        pulls = [total / len(own) * slope for own, slope in zip(right, slopes, strict=True)]
        return [
            score
            + (
                pulls[1] * (float(guess[1] == target) - novel)
                if target >= self.base
                else pulls[0] * (float(guess[0] == target) - base)
            )
            for guess, target in zip(predictions, targets, strict=True)
        ]

    def trivial(self, train: Sequence[int], classes: Sequence[str]) -> TrivialAnswer:
        """Return chance: a guess among the classes of an image's own half."""
        halves = {"base_accuracy": self.base, "novel_accuracy": len(self.classes) - self.base}
        scores = {name: 1 / size for name, size in halves.items() if size}
        scores["harmonic_mean"] = harmonic_mean(*scores.values())
        return TrivialAnswer(CHANCE, lambda windows, targets: scores)

    def record(self, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    def _right(
        self, predictions: Sequence[tuple[int, int | None]], targets: Sequence[int]
    ) -> tuple[list[float], list[float]]:
        """Return whether each image of a base class, and each of a novel one, went to its own among its kind."""
        right: tuple[list[float], list[float]] = ([], [])
        for guess, target in zip(predictions, targets, strict=True):
            kind = int(target >= self.base)
            right[kind].append(float(guess[kind] == target))
        return right


def harmonic_mean(*values: float) -> float:
    """Return the harmonic mean; 0 if a value is 0."""
    return len(values) / sum(1 / value for value in values) if all(values) else 0.0
