"""The bootstrap over seeds and test examples, p-values from it, and their correction for the number of tests.

Scores come as a table a data set, an array of shape (seeds, items) of fractions: an item is a test example, or all of
them together, which is one item, where a metric is no mean over examples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
RANDOM_STATE = 0
"""Every bootstrap starts from it, so the same results always give the same numbers."""

BATCH_ENTRIES = 1_000_000
"""How many indices are drawn at once. It bounds the memory, and as one of few things decides the draws."""

ROUNDING = 1e-12
"""Differences of means below this come from adding the same numbers in another order."""

K = TypeVar("K")


@dataclass(frozen=True)
class Bootstrap:
    """The percentile interval of a mean over data sets, and the resampled means, an array of shape (RESAMPLES,)."""

    low: float
    high: float
    means: np.ndarray


def bootstrap(tables: Mapping[K, Sequence[np.ndarray]]) -> dict[K, Bootstrap | None]:
    """Resample the mean of each key's tables, one a data set, with seeds in common and as many as each has itself.

    None stands for a single number, in which there is nothing to resample. Keys whose tables have the same shapes
    share their draws.
    """
    alike = defaultdict(list)
    for key, own in tables.items():
        alike[tuple(table.shape for table in own)].append(key)
    found = {}
    for keys in alike.values():
        found |= dict(zip(keys, _crossed([tables[key] for key in keys]), strict=True))
    return found


def _crossed(rows: Sequence[Sequence[np.ndarray]]) -> list[Bootstrap | None]:
    """Return the bootstrap of rows of tables of the same shapes: seeds and items drawn independently of each other."""
    import numpy as np
    from scipy import stats

    stacks = [np.stack(tables) for tables in zip(*rows, strict=True)]
    sizes = [stacks[0].shape[1], *(stack.shape[2] for stack in stacks)]
    drawn = tuple(np.arange(size) for size in sizes if size > 1)  # a single one is drawn every time
    if not drawn:
        return [None] * len(rows)

    def means(*indices: np.ndarray, axis: int) -> np.ndarray:
        shares = map(_shares, indices)
        always = np.ones((len(indices[0]), 1))
        of_seeds, *of_items = (next(shares) if size > 1 else always for size in sizes)
        by_seed = sum(np.tensordot(*pair, (2, 1)) for pair in zip(stacks, of_items, strict=True)) / len(stacks)
        return np.einsum("rsb,bs->rb", by_seed, of_seeds)

    found = stats.bootstrap(
        drawn,
        means,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_ENTRIES // sum(sizes)),
        vectorized=True,
        paired=False,
        axis=-1,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(RANDOM_STATE),
    )
    low, high = found.confidence_interval
    return list(map(Bootstrap, low.tolist(), high.tolist(), found.bootstrap_distribution))


def _shares(indices: np.ndarray) -> np.ndarray:
    """Return which part of each sample every index makes up; both have the shape (samples, size)."""
    import numpy as np

    samples, size = indices.shape
    cells = (indices + size * np.arange(samples)[:, None]).ravel()
    return np.bincount(cells, minlength=samples * size).reshape(samples, size) / size


def p_value(differences: np.ndarray) -> float:
    """Return the two-sided p-value of resampled differences: it is below 5 % where their 95 % interval leaves out 0."""
    import numpy as np

    tail = 1 + min(np.sum(differences <= ROUNDING), np.sum(differences >= -ROUNDING))
    return float(min(1.0, 2 * tail / (1 + len(differences))))


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Return p-values corrected for their number by Holm's method, which holds however they depend on each other."""
    if not p_values:
        return {}
    from statsmodels.stats.multitest import multipletests

    corrected = multipletests(list(p_values.values()), method="holm")[1]
    return dict(zip(p_values, corrected.tolist(), strict=True))
