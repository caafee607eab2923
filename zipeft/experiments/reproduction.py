"""A training that was done again, beside its record: what came out otherwise, whether by noise, what surrounded it.

On the same software and machine a training gives the same numbers to the last digit. Elsewhere sums are rounded
otherwise, and small differences grow while it trains: then the score has to lie in the interval in which another run of
its row is expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from statistics import variance
from typing import Any

from zipeft.leaderboard.labels import method_key
from zipeft.leaderboard.statistics import Estimate, Part
from zipeft.results import Epoch, Result, Trained
from zipeft.results.differences import unequal
from zipeft.results.identity import canonical

SCORES = ("validation", "test", "trivial")
EXAMPLES = ("predictions", "targets", "item_scores")
COUNTS = ("trainable_parameters", "head_parameters", "steps")
"""Of the costs, those that depend on no machine."""

NEUTRAL = ("commit", "dirty", "versions.zipeft", "cores", "memory")
"""What of the surroundings rounds nothing otherwise: zipeft itself promises the same numbers while ``RESULT_VERSION``
stays, and it is threads that share out sums, not cores."""

NOT_ON_RECORD = "not on record"


class Verdict(Enum):
    """How a training that was done again compares with its record."""

    EQUAL = "equal to the last digit"
    WITHIN = "within the interval, elsewhere"
    DIFFERS = "not reproduced"


@dataclass(frozen=True)
class Reproduction:
    """A record, what the same training gave now, and the runs of the same row, its own among them, which say how much
    a score varies with the seed."""

    then: Trained
    now: Trained
    row: Sequence[Result] = ()

    @property
    def outcome(self) -> dict[str, str]:
        """What came out otherwise, by name and in words: scores, answers, what was chosen and what was counted.

        What an older schema did not record is not compared.
        """
        then, now = _outcome(self.then), _outcome(self.now)
        for name in then.keys() & now.keys():
            if None in (then[name], now[name]):
                del then[name], now[name]
        found = unequal(
            {name: then[name] for name in then if name not in EXAMPLES},
            {name: now[name] for name in now if name not in EXAMPLES},
        )
        return found | {name: said for name in EXAMPLES if name in then and (said := _unlike(then[name], now[name]))}

    @property
    def loss_gap(self) -> float:
        """The largest difference of a training loss, as a part of it: the first to show that sums were rounded
        otherwise, long before an answer changes."""
        pairs = zip(self.then.history, self.now.history, strict=False)
        losses = [(a, b) for then, now in pairs for a, b in _losses(then, now)]
        return max((abs(a - b) / max(abs(a), abs(b)) for a, b in losses if a != b), default=0.0)

    @property
    def surroundings(self) -> dict[str, str]:
        """What of software and machine is another, by name, as {"versions.torch": "2.13.0 / 2.14.1"}."""
        return unequal(_surroundings(self.then), _surroundings(self.now))

    @property
    def elsewhere(self) -> bool:
        """Whether other libraries or another machine may have rounded otherwise; another zipeft may not."""
        return bool(self.surroundings.keys() - set(NEUTRAL))

    @property
    def gap(self) -> Estimate | None:
        """The difference of the scores, now minus then, with what is known of its variance; None for a trial.

        Two runs of a row differ by twice the variance between its seeds, and no less than the noise of the examples
        that they answer otherwise. With one seed the examples alone tell.
        """
        if not (isinstance(self.then, Result) and isinstance(self.now, Result)):
            return None
        difference = self.now.score - self.then.score
        items = [b - a for a, b in zip(self.then.item_scores, self.now.item_scores, strict=False)]
        noise = Part(variance(items) / len(items), len(items) - 1) if len(items) > 1 else None
        scores = [result.score for result in self.row]
        if len(scores) > 1:
            return Estimate(difference, Part(2 * variance(scores), len(scores) - 1), noise)
        return Estimate(difference, items=(noise,) if noise else ())

    @property
    def verdict(self) -> Verdict:
        if not self.outcome:
            return Verdict.EQUAL
        interval = self.gap.interval() if self.gap and self.elsewhere else None
        return Verdict.WITHIN if interval and interval[0] <= 0 <= interval[1] else Verdict.DIFFERS


def row_of(record: Trained, results: Iterable[Result]) -> list[Result]:
    """Return the newest run of each seed in the row of a record: comparable with it, of its method and data set."""
    if not isinstance(record, Result):
        return []
    row = {record.seed: record}
    for result in sorted(results, key=lambda result: result.when):
        if (result.comparability, method_key(result)) == (record.comparability, method_key(record)):
            row.setdefault(result.seed, result)
    return [row[seed] for seed in sorted(row)]


def _outcome(record: Trained) -> dict[str, Any]:
    """Return what a training gave and no machine decides; None for what an older schema did not record."""
    content = asdict(record)
    found = {name: content[name] for name in (*SCORES, *EXAMPLES) if name in content}
    found |= {name: content["cost"][name] for name in COUNTS}
    found["selected_epoch"] = record.selected_epoch
    for epoch in record.history:
        found[f"validation after epoch {epoch.epoch}"] = epoch.validation
    return found


def _losses(then: Epoch, now: Epoch) -> Iterator[tuple[float, float]]:
    yield then.train_loss, now.train_loss
    yield from zip(then.losses, now.losses, strict=False)


def _unlike(then: Sequence[Any], now: Sequence[Any]) -> str:
    """Return how many entries of two lists, one an example, differ, in words; "" where none does."""
    if len(then) != len(now):
        return f"{len(then)} / {len(now)} entries"
    unlike = sum(canonical(a) != canonical(b) for a, b in zip(then, now, strict=True))
    return f"{unlike} of {len(then)} differ" if unlike else ""


def _surroundings(record: Trained) -> dict[str, Any]:
    used = {name: value for name, value in asdict(record.environment).items() if name != "command"}
    threads = record.cost.threads
    return {**used, "threads": NOT_ON_RECORD if threads is None else threads, "memory": record.cost.peak_memory_kind}
