"""Wins, ties and losses, how sure they are, and what the judge cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zipeft.judge.asking import ORDERS, Hearing, Judge, Order, hear
from zipeft.judge.contest import Contest
from zipeft.judge.journal import Journal
from zipeft.judge.verdicts import FIRST, SECOND, TIE, Verdict

WIN, LOSS, UNREADABLE = "win", "loss", "unreadable"
"""Outcomes of a question for file A; ``TIE`` is the fourth."""

RESAMPLES = 9999
RANDOM_STATE = 0
"""The bootstrap starts from it, so the same replies always give the same interval."""

POINTS = {WIN: 1.0, TIE: 0.5, LOSS: 0.0}

AGREES, TO_FIRST, TO_SECOND, TO_TIE = "agrees", "first", "second", "tie"
"""What changing the order does: nothing, the answer shown first or second wins both times, or one order is a tie."""


@dataclass(frozen=True)
class Tally:
    """Outcomes of questions for file A, and its win rate with ties as half, of which unreadable ones are no part."""

    outcomes: Counter[str]

    @property
    def questions(self) -> int:
        return self.outcomes.total()

    @property
    def win_rate(self) -> float | None:
        readable = self.questions - self.outcomes[UNREADABLE]
        return sum(POINTS[outcome] * self.outcomes[outcome] for outcome in POINTS) / readable if readable else None


@dataclass(frozen=True)
class Summary:
    """All that is reported of a comparison.

    ``interval`` is the 95 % bootstrap interval of the win rate over questions, ``None`` with fewer than two readable
    ones. ``positions`` counts what changing the order does to readable questions. ``refusals`` says of each reply
    without an answer why it has none. ``models`` and ``endpoints`` are those that the replies came from.
    """

    total: Tally
    interval: tuple[float, float] | None
    categories: dict[str, Tally]
    positions: Counter[str]
    replies: int
    unreadable_replies: int
    refusals: list[str]
    prompt_tokens: int
    completion_tokens: int
    without_usage: int
    models: list[str]
    endpoints: list[str]


def outcome(verdicts: Sequence[Verdict | None]) -> str:
    """Return who wins by the verdicts in both ``ORDERS``: who wins both. Where they do not agree it is a tie."""
    winners = {_winner(verdict, order) for verdict, order in zip(verdicts, ORDERS, strict=True) if verdict}
    if None in verdicts:
        return UNREADABLE
    return winners.pop() if len(winners) == 1 else TIE


def change(first: Verdict, second: Verdict) -> str:
    """Return what changing the order does to the verdict; they are those in both ``ORDERS``."""
    one, other = (_winner(verdict, order) for verdict, order in zip((first, second), ORDERS, strict=True))
    if one == other:
        return AGREES
    if TIE in (one, other):
        return TO_TIE
    return TO_FIRST if first.winner == FIRST else TO_SECOND


def _winner(verdict: Verdict, order: Order) -> str:
    """Return a verdict by files instead of by places."""
    if verdict.winner == TIE:
        return TIE
    return (WIN, LOSS)[order[(FIRST, SECOND).index(verdict.winner)]]


def summarise(judge: Judge, contest: Contest, journal: Journal) -> Summary:
    """Count what the judge said on each pair in both orders; all of it is in the journal."""
    hearings = [[hear(judge, pair, order, journal) for order in ORDERS] for pair in contest.pairs]
    verdicts = [[hearing.verdict for hearing in both] for both in hearings]
    outcomes = list(map(outcome, verdicts))
    records = _distinct(hearings)
    categories: dict[str, Counter[str]] = {}
    for pair, result in zip(contest.pairs, outcomes, strict=True):
        categories.setdefault(pair.category, Counter())[result] += 1
    prompt, completion = _tokens(records, "prompt_tokens"), _tokens(records, "completion_tokens")
    return Summary(
        total=Tally(Counter(outcomes)),
        interval=_interval([POINTS[result] for result in outcomes if result != UNREADABLE]),
        categories={name: Tally(counts) for name, counts in categories.items()} if set(categories) != {""} else {},
        positions=Counter(change(first, second) for first, second in verdicts if first and second),
        replies=len(records),
        unreadable_replies=len(records) - len(_readable(hearings)),
        refusals=[_refusal(record) for record in records if not record["reply"]],
        prompt_tokens=sum(filter(None, prompt)),
        completion_tokens=sum(filter(None, completion)),
        without_usage=sum(_costs_unknown(record) for record in records),
        models=_values(records, "answered_as"),
        endpoints=_values(records, "endpoint"),
    )


def _interval(points: Sequence[float]) -> tuple[float, float] | None:
    import numpy as np
    from scipy import stats

    if len(points) < 2:
        return None
    rng = np.random.default_rng(RANDOM_STATE)
    found = stats.bootstrap((np.array(points),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _distinct(hearings: Iterable[Iterable[Hearing]]) -> list[Mapping[str, Any]]:
    """Return all replies, each once: where both answers are the same, both orders have the same."""
    return list({record["key"]: record for both in hearings for hearing in both for record in hearing.replies}.values())


def _readable(hearings: Iterable[Iterable[Hearing]]) -> set[str]:
    """Return the keys of replies with a verdict: where there is one, it is the last."""
    return {hearing.replies[-1]["key"] for both in hearings for hearing in both if hearing.verdict}


def _refusal(record: Mapping[str, Any]) -> str:
    return f"question {str(record.get('question_id'))!r}: {record.get('refusal') or 'sent an empty reply'}"


def _tokens(records: Iterable[Mapping[str, Any]], name: str) -> list[int | None]:
    values = (record.get(name) for record in records)
    return [value if isinstance(value, int) else None for value in values]


def _costs_unknown(record: Mapping[str, Any]) -> bool:
    """Whether the server did not tell the tokens of a reply; a refusal has none."""
    tokens = [*_tokens([record], "prompt_tokens"), *_tokens([record], "completion_tokens")]
    return bool(record["reply"]) and None in tokens


def _values(records: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    return sorted({str(record[name]) for record in records if record.get(name)})
