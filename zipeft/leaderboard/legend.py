"""What the numbers of a table mean, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from zipeft.formatting import DASH, listing, ratio
from zipeft.leaderboard.ranking import LEAST_SEEDS, LEAST_SEEDS_ALONE, TIED, UNKNOWN, Row, Score
from zipeft.results import Result

TEST = (
    "t-test of paired differences with seeds and test examples both random, all pairs of rows, Holm's correction, "
    "5 % level"
)
BOLD = "Bold is the highest score of its column."

OF_EXAMPLES = "The interval covers the choice of the test examples alone: what another seed would give is not known."
OF_BOTH = (
    "The interval covers what the seed changes (initial values, order of the data, and the choice of training examples "
    "where a seed draws them) and the choice of the test examples, not that of data sets, nor the search."
)
OF_FEW_SEEDS = (
    "Few seeds say little of how much scores vary with the seed, and the intervals and tests allow for that: where the "
    "seed matters, three seeds show large differences alone."
)
OF_TESTS = (
    "≈ says that no difference was shown, not that there is none. The tests of a column are corrected for their own "
    "number alone. Rows come in the order of their means, and one whose scores vary little may be beaten by more rows "
    "than one below it."
)


def legend(rows: Sequence[Row]) -> list[str]:
    """Return what the scores, the intervals, the ranks and the marks of a table mean, a sentence each."""
    metrics = sorted({result.task.metric for row in rows for result in row.results})
    seeds = sorted({score.seeds for score in _scores(rows)})
    source = "of one seed" if seeds == [1] else f"the mean over {_range(seeds)} seeds"
    return [f"Scores are test {' or '.join(metrics)} in percent, {source}{_interval(rows)}.", *_tests(rows)]


def caveats(rows: Sequence[Row]) -> list[str]:
    """Return what the intervals and ranks of a table do not say, a sentence or two each."""
    scores = _scores(rows)
    if all(score.seeds == 1 for score in scores):
        return [OF_EXAMPLES] if any(score.low is not None for score in scores) else []
    return [OF_BOTH, OF_FEW_SEEDS, *_seed_ratios(rows), *([OF_TESTS] if any(score.rank for score in scores) else [])]


def _seed_ratios(rows: Sequence[Row]) -> list[str]:
    """Return how much seeds add to the error of differences, beside what test examples add, by column."""
    columns: dict[str, list[float]] = {name: [] for name in sorted({name for row in rows for name in row.scores})}
    several = len(columns) > 1
    for row in rows:
        for name, score in (*row.scores.items(), *([("the mean", row.mean)] if several and row.mean else [])):
            if score.seed_ratio is not None:
                columns.setdefault(name, []).append(score.seed_ratio)
    said = [
        f"{ratio(median(own))}{f' on {name}' if several else ''} ({ratio(min(own))} to {ratio(max(own))})"
        for name, own in columns.items()
        if own
    ]
    start = "Of the differences from the best row, seeds cause a standard error that is"
    return [f"{start} {listing(said)} times the one that test examples cause (median and range)."] if said else []


def _scores(rows: Iterable[Row]) -> list[Score]:
    return [score for row in rows for score in (*row.scores.values(), row.mean) if score]


def _interval(rows: Sequence[Row]) -> str:
    """Return what the intervals cover."""
    scores = _scores(rows)
    if all(score.low is None for score in scores):
        return ", to which no interval can be given"
    lacking = _without_items(result for row in rows for result in row.results)
    over = ["seeds"] if any(score.seeds > 1 for score in scores) else []
    over += ["test examples"] if lacking != {result.task.dataset for row in rows for result in row.results} else []
    said = f", and in parentheses the 95 % interval over {listing(over)}"
    if lacking and len(over) > 1:
        said += f"; over seeds alone on {listing(sorted(lacking))}, where no scores by example are on record"
    if any(score.seeds == 1 for score in scores) and len(over) > 1:
        said += "; over test examples alone where there is one seed"
    return said


def _without_items(results: Iterable[Result]) -> set[str]:
    return {result.task.dataset for result in results if not result.item_scores}


def _tests(rows: Sequence[Row]) -> list[str]:
    """Return what ranks and marks say, and about which rows nothing can be said."""
    if len(rows) == 1:
        return []
    sentences = []
    if any(row.mean and row.mean.rank for row in rows):
        sentences.append(f"Rank is 1 + the number of rows that are significantly better ({TEST}).")
    if any(score.verdict == TIED for score in _scores(rows)):
        sentences.append("≈ marks a score that is not significantly below the best of its column.")
    unknown = [row for row in rows if row.mean and row.mean.verdict == UNKNOWN]
    if unknown:
        which = "rows" if len(unknown) == len(rows) else f"{listing([row.label for row in unknown])} and other rows"
        why = _too_few_seeds(unknown)
        sentences.append(f"Nothing can be said about differences between {which}, hence no rank ({DASH}): {why}.")
    return sentences


def _too_few_seeds(rows: Sequence[Row]) -> str:
    if all(_without_items(row.results) for row in rows):
        return f"fewer than {LEAST_SEEDS_ALONE} seeds are shared, and there are no scores by example"
    return f"fewer than {LEAST_SEEDS} seeds are shared"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
