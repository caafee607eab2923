"""Responses to instructions: their loss, and how likely and how near to the reference answers are."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zipeft import metrics
from zipeft.api.objective import Objective
from zipeft.errors import require
from zipeft.text.thoughts import answer_of, without_thoughts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zipeft.api.language_backbone import LanguageBackbone


class Response(NamedTuple):
    """What a model makes of an instruction: the log-probability of the reference in all, its tokens, and the answer
    that the model gives itself, or None where it was not asked."""

    log_prob: float
    tokens: int
    answer: str | None = None

    @property
    def probability(self) -> float:
        """The geometric mean of the probabilities of the reference's tokens."""
        return math.exp(self.log_prob / max(self.tokens, 1))


@dataclass(frozen=True)
class Responses(Objective):
    """Instruction tuning: a language model learns responses, its loss on the tokens of the response alone.

    The metric, ``answer_probability``, is the probability that the model gives to a reference's tokens, their geometric
    mean, meaned over examples. ``loss`` is the mean over all tokens of the split, ``perplexity`` e to its power. What
    is final is answered too, greedily: ``rouge_l`` and ``exact_match`` are those of the nearest reference, thoughts on
    either side left out.

    Targets of examples are tuples of references; the first one is learnt.
    """

    max_new_tokens: int = 64  # type: ignore[misc]  # of others it is one for all instances
    """Tokens of the longest answer."""

    metric: ClassVar[str] = "answer_probability"

    def __post_init__(self) -> None:
        require(self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}: give 1 or more")

    def read(self, backbone: LanguageBackbone, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        return backbone.log_probs(model, inputs)

    def head(self, classes: Sequence[str], width: int) -> nn.Module:
        """Return a head that changes nothing: the language model's own is part of the backbone."""
        from torch import nn

        return nn.Identity()

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return the loss, a scalar: the mean over responses of the mean negative log-likelihood of their tokens."""
        labelled = outputs <= 0
        return -((outputs * labelled).sum(1) / labelled.sum(1).clamp(min=1)).mean()

    def predict(self, outputs: Tensor) -> list[Response]:
        labelled = outputs <= 0
        log_probs = (outputs.double() * labelled).sum(1).tolist()
        return [Response(*pair) for pair in zip(log_probs, labelled.sum(1).tolist(), strict=True)]

    def with_generated(
        self, predictions: Sequence[Response], generated: Sequence[list[int]], backbone: LanguageBackbone
    ) -> list[Response]:
        answers = [answer_of(backbone.tokenizer(), ids) for ids in generated]
        return [response._replace(answer=answer) for response, answer in zip(predictions, answers, strict=True)]

    def score(self, predictions: Sequence[Response], targets: Sequence[Sequence[str]]) -> dict[str, float]:
        loss = -sum(each.log_prob for each in predictions) / max(sum(each.tokens for each in predictions), 1)
        scores = {
            "answer_probability": fmean(self.item_scores(predictions, targets)),
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
        }
        if all(each.answer is not None for each in predictions):
            answers = [each.answer for each in predictions]
            references = [[without_thoughts(reference) for reference in golds] for golds in targets]
            scores |= metrics.compute(("rouge_l", "exact_match"), answers, references)
        return scores

    def item_scores(self, predictions: Sequence[Response], targets: Sequence[Sequence[str]]) -> list[float]:
        return [each.probability for each in predictions]

    def record(self, value: Any) -> Any:
        """Return the log-probability, tokens, and a digest of the answer; of a target, digests of its references."""
        if isinstance(value, Response):
            return [round(value.log_prob, 4), value.tokens, _digest(value.answer or "")]
        return [_digest(reference) for reference in value]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
