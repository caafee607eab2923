"""Makes the results of small leaderboards for tests, and the leaderboards from them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from support.result_factory import make_result
from zipeft.commands.leaderboard import main
from zipeft.results import Result, save_result

SCORES = {"linear": (0.40, 0.42, 0.41), "lora": (0.70, 0.66, 0.71), "zero_gated": (0.69, 0.68, 0.68)}
"""By seed, on the first data set; on each further one they are 0.1 higher."""

PARAMETERS = {"linear": 0, "lora": 147_456, "zero_gated": 46_152}


def make_results(
    datasets: Sequence[str] = ("icons", "typefaces"),
    seeds: int = 3,
    scores: Mapping[str, Sequence[float]] = SCORES,
    **changes: Any,
) -> list[Result]:
    """Return results whose items all score the same, so that intervals come from the seeds alone."""
    return [
        make_result(method, dataset, seed, score + 0.1 * offset, parameters=PARAMETERS.get(method, 1000), **changes)
        for method, by_seed in scores.items()
        for offset, dataset in enumerate(datasets)
        for seed, score in enumerate(by_seed[:seeds])
    ]


def drawn_results(chances: Mapping[str, float], datasets: Mapping[str, int], seeds: int = 3) -> list[Result]:
    """Return results whose items, a number a data set, are right with a method's chance."""
    rng = random.Random(0)
    results = []
    for method, chance in chances.items():
        for dataset, items in datasets.items():
            for seed in range(seeds):
                scores = tuple(float(rng.random() < chance) for _ in range(items))
                mean = sum(scores) / items
                results.append(make_result(method, dataset, seed, mean, items=items, item_scores=scores))
    return results


def build(folder: Path, results: Iterable[Result], *formats: str) -> dict[str, str]:
    """Save results under ``folder``/results, make their leaderboards in ``folder``, and return the files' texts."""
    for result in results:
        save_result(folder / "results", result)
    choice = ["--format", *formats] if formats else []
    assert main([str(folder / "results"), "--out", str(folder), *choice]) == 0
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.is_file()}


def cells(page: str) -> dict[str, list[str]]:
    """Return the cells of every table row of a markdown page by its first cell; the first of equal ones counts."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in reversed(rows)}
