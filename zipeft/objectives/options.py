"""Questions with options: a language model learns the right answers, and ranks the options by their likelihood."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, ClassVar

from zipeft.api.objective import Objective, TrivialAnswer
from zipeft.errors import require
from zipeft.metrics.answers import normalised
from zipeft.objectives.yes_no import yes_no_scores
from zipeft.text.thoughts import answer_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.data import Window
    from zipeft.api.language_backbone import LanguageBackbone

LETTERS = ascii_uppercase
"""What options are called where they are answered by letter; there are no more options than letters."""


@dataclass(frozen=True)
class Answer:
    """The right answer to a question with options: the target of an example.

    ``index`` says which of the ``options`` it is. ``groups`` names the parts of the test data that the question counts
    for ("NAT", "IMG"): each has an accuracy of its own. Questions of the same ``pair`` are right together or not at all
    in ``accuracy_plus``, as MME has it (arXiv 2306.13394); "" for none. ``asked`` is the text of the question, by which
    an answer without the image is guessed.
    """

    index: int
    options: tuple[str, ...]
    groups: tuple[str, ...] = ()
    pair: str = ""
    asked: str = ""


@dataclass(frozen=True)
class Choice:
    """What a model makes of a question: the option that it finds likeliest, the log-probabilities of all, and the
    answer that it writes itself, or None where it was not asked."""

    index: int
    log_probs: tuple[float, ...]
    written: str | None = None


@dataclass(frozen=True)
class Options(Objective):
    """Answers to questions with options; the loss is that of a language model on the right answer's tokens.

    The metric, ``accuracy``, takes the option whose tokens, and the end behind them, are likeliest in all.
    ``written_accuracy`` takes the option that the model's own answer, written greedily, names. Targets are ``Answer``.
    Where all questions are answered by yes or no, there are POPE's scores as well (``yes_no_scores``).
    """

    max_new_tokens: int = 8  # type: ignore[misc]  # of others it is one for all instances
    """Tokens of the longest answer that a model writes."""

    letters: bool = False
    """Whether an option is answered by its letter ("A") and not by its words."""

    groups: tuple[str, ...] = ()
    """Groups of questions in the order in which their accuracies stand; others come behind, as they first come."""

    metric: ClassVar[str] = "accuracy"

    def __post_init__(self) -> None:
        require(self.max_new_tokens >= 0, f"max_new_tokens is {self.max_new_tokens}: give 1 or more, or 0 for none")

    def read(self, backbone: LanguageBackbone, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the log-probability (batch, options) of each option, 1 where a question has fewer."""
        return backbone.option_log_probs(model, inputs)

    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        """Return a head that changes nothing: the language model's own is part of the backbone."""
        from torch import nn

        return nn.Identity()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar: the mean negative log-likelihood of right answers; ``targets`` are indices."""
        return -outputs.gather(1, targets[:, None]).mean()

    def predict(self, outputs: Tensor) -> list[Choice]:
        rows = [tuple(value for value in row if value <= 0) for row in outputs.double().tolist()]
        return [Choice(max(range(len(row)), key=row.__getitem__), row) for row in rows]

    def with_generated(
        self, predictions: Sequence[Choice], generated: Sequence[list[int]], backbone: LanguageBackbone
    ) -> list[Choice]:
        texts = [answer_of(backbone.tokenizer(), ids) for ids in generated]
        return [replace(choice, written=text) for choice, text in zip(predictions, texts, strict=True)]

    def score(self, predictions: Sequence[Choice], targets: Sequence[Answer]) -> dict[str, float]:
        right = self.item_scores(predictions, targets)
        scores = {"accuracy": fmean(right), **of_groups(right, targets, self.groups), **_plus(right, targets)}
        chosen, true = ([each.index for each in some] for some in (predictions, targets))
        scores |= yes_no_scores(chosen, true, [answer.options for answer in targets])
        if all(choice.written is not None for choice in predictions):
            written = [
                float(self.named(choice.written or "", answer.options) == answer.index)
                for choice, answer in zip(predictions, targets, strict=True)
            ]
            scores["written_accuracy"] = fmean(written)
        return scores

    def item_scores(self, predictions: Sequence[Choice], targets: Sequence[Answer]) -> list[float]:
        return [float(choice.index == answer.index) for choice, answer in zip(predictions, targets, strict=True)]

    def named(self, written: str, options: Sequence[str]) -> int | None:
        """Return which option a written answer names; None if it names none."""
        return named_letter(written, len(options)) if self.letters else named_option(written, options)

    def trivial(self, train: Sequence[Answer], classes: Sequence[str]) -> TrivialAnswer | None:
        """Return the best answer to the text of a question alone: what training answers it with most often."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for answer in train:
            for asked in (answer.asked, ""):  # and, for a question that training never saw, the commonest of all
                counts[asked][answer.options[answer.index]] += 1

        def scores(windows: Iterable[Sequence[Window]], targets: Sequence[Answer]) -> dict[str, float]:
            guesses = [Choice(_guess(counts, answer), ()) for answer in targets]
            return self.score(guesses, targets)

        return TrivialAnswer("the commonest answer to the same words", scores)

    def record(self, value: Any) -> Any:
        """Return which option was chosen, or is right."""
        return value.index


def of_groups(right: Sequence[float], targets: Sequence[Answer], order: Sequence[str] = ()) -> dict[str, float]:
    """Return the accuracy on each group: in ``order``, and behind these in the order in which groups first come."""
    found: dict[str, list[float]] = defaultdict(list, {group: [] for group in order})
    for score, answer in zip(right, targets, strict=True):
        for group in answer.groups:
            found[group].append(score)
    return {group: fmean(scores) for group, scores in found.items() if scores}


def _plus(right: Sequence[float], targets: Sequence[Answer]) -> dict[str, float]:
    """Return ``accuracy_plus``, the part of the pairs that are right in all; nothing where there are none."""
    pairs: dict[str, list[float]] = defaultdict(list)
    for score, answer in zip(right, targets, strict=True):
        if answer.pair:
            pairs[answer.pair].append(score)
    return {"accuracy_plus": fmean(map(min, pairs.values()))} if pairs else {}


def _guess(counts: dict[str, Counter[str]], answer: Answer) -> int:
    """Return the option that was right most often for a question's words, else for any; the first of ties."""
    known = counts.get(answer.asked) or counts[""]
    return max(range(len(answer.options)), key=lambda index: known[answer.options[index]])


def named_option(written: str, options: Sequence[str]) -> int | None:
    """Return the option that a written answer begins with, or is; the longest of several."""
    words = normalised(written).split()
    found = [
        (len(own), -index)
        for index, option in enumerate(options)
        if (own := normalised(option).split()) and words[: len(own)] == own
    ]
    return -max(found)[1] if found else None


def named_letter(written: str, options: int) -> int | None:
    """Return the option whose letter a written answer gives ("B", "(B)", "The answer is B."); None if there is none."""
    letters = LETTERS[:options]
    found = re.search(rf"\b([{letters}])\b", written)
    return letters.index(found[1]) if found else None
