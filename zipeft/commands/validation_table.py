"""The table of a search that ends before its runs: what each contender's trials scored on validation data."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from tabulate import tabulate

from zipeft.formatting import percent, significant
from zipeft.results import Trial
from zipeft.results.differences import brief

HEADERS = ("data set", "contender", "best (validation)", "mean of trials", "trials", "what the best one drew")


def validation_table(trials: Iterable[tuple[str, Trial]]) -> str:
    """Return a table of trials, each with what its contender is called: the best validation scores first."""
    groups: dict[tuple[str, str], list[Trial]] = {}
    for label, trial in trials:
        groups.setdefault((trial.task.dataset, label), []).append(trial)
    rows = []
    for (dataset, label), own in groups.items():
        best = max(own, key=_score)
        drawn = {name: best.method.settings[name] for name in sorted(best.method.space)}
        words = ", ".join(f"{k}={significant(v) if isinstance(v, float) else brief(v)}" for k, v in drawn.items())
        mean = fmean(map(_score, own))
        rows.append((dataset, -_score(best), [dataset, label, percent(_score(best)), percent(mean), len(own), words]))
    rows.sort(key=lambda row: row[:2])
    table = tabulate([cells for *_, cells in rows], headers=HEADERS, disable_numparse=True)
    return f"{table}\n\nScores are in percent, on validation data alone, from one seed; no test data were opened."


def _score(trial: Trial) -> float:
    return trial.validation[trial.task.metric]
