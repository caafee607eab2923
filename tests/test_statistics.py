"""The statistics of the leaderboard, against independent computation and by simulation."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from zipeft.leaderboard.statistics import RESAMPLES, bootstrap, holm, p_value


def every_resample(tables: list[np.ndarray]) -> np.ndarray:
    """Return the mean of every possible resample of small tables: seeds in common, items of each table."""
    sizes = [tables[0].shape[0], *(table.shape[1] for table in tables)]
    choices = (itertools.product(range(size), repeat=size) for size in sizes)
    return np.array(
        [
            np.mean([table[np.ix_(seeds, own)].mean() for table, own in zip(tables, items, strict=True)])
            for seeds, *items in itertools.product(*choices)
        ]
    )


@pytest.mark.parametrize("shapes", [[(3, 4)], [(2, 3), (2, 4)], [(1, 5)], [(4, 1)], [(3, 1), (3, 4)]])
def test_the_bootstrap_draws_seeds_and_items_independently(shapes):
    rng = np.random.default_rng(7)
    tables = [rng.integers(0, 2, shape) + rng.normal(0, 0.1, shape) for shape in shapes]
    exact = every_resample(tables)
    found = bootstrap({"row": tables})["row"]
    assert found.means.shape == (RESAMPLES,)
    assert stats.ks_2samp(found.means.round(9), exact.round(9)).statistic < 0.02
    assert found.low == pytest.approx(np.percentile(found.means, 2.5))
    assert found.high == pytest.approx(np.percentile(found.means, 97.5))


def test_items_alone_give_scipys_own_bootstrap():
    scores = np.random.default_rng(1).random(200)
    found = bootstrap({"row": [scores[None]]})["row"]
    own = stats.bootstrap((scores,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (found.low, found.high) == pytest.approx(tuple(own.confidence_interval), abs=1e-9)


def test_a_row_draws_the_same_whatever_stands_beside_it():
    rng = np.random.default_rng(2)
    tables = {key: [rng.random((3, 20))] for key in "abc"} | {"d": [rng.random((4, 20))]}
    together = bootstrap(tables)
    for key, own in tables.items():
        alone = bootstrap({key: own})[key]
        assert np.allclose(alone.means, together[key].means)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        (np.full((3, 50), 0.7), 0.7, 0.7),
        (np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]), 0.1, 0.3),  # all three the same seed: once in 27
        (np.array([[0.1], [0.2], [0.3]]), 0.1, 0.3),
    ],
    ids=["no variation", "no variation of items", "one item"],
)
def test_degenerate_tables_have_an_interval(table, low, high):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap({"row": [table]})["row"]
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_single_number_has_no_interval():
    assert bootstrap({"row": [np.array([[0.5]])], "two": [np.array([[0.5]]), np.array([[0.7]])]}) == {
        "row": None,
        "two": None,
    }
    assert bootstrap({}) == {}


def crossed(rng, rows: int, seeds: int, items: int, spread=(0.1, 0.3, 0.3)) -> np.ndarray:
    """Return tables of mean 0: effects of seeds, of items, and of both together."""
    parts = zip(((rows, seeds, 1), (rows, 1, items), (rows, seeds, items)), spread, strict=True)
    return sum(rng.normal(0, scale, shape) for shape, scale in parts)


@pytest.mark.parametrize(
    ("seeds", "items", "spread", "least", "most"),
    [
        (15, 60, (0.1, 0.3, 0.3), 0.90, 0.98),
        (1, 100, (0, 0.3, 0), 0.91, 0.98),
        (3, 150, (0.01, 0.3, 0.1), 0.91, 0.98),  # seeds matter less than items: three are enough
        (3, 150, (0.1, 0.1, 0.1), 0.55, 0.85),  # they matter more: what the page warns of
    ],
)
def test_the_interval_covers_the_mean_as_often_as_the_page_says(seeds, items, spread, least, most):
    tables = crossed(np.random.default_rng(3), 250, seeds, items, spread)
    found = bootstrap({index: [table] for index, table in enumerate(tables)})
    covered = np.mean([interval.low <= 0 <= interval.high for interval in found.values()])
    assert least <= covered <= most


def test_p_values_are_uniform_where_there_is_no_difference():
    tables = crossed(np.random.default_rng(4), 250, 20, 60, (0.1, 0.5, 0.3))
    found = bootstrap({index: [table] for index, table in enumerate(tables)})
    p = [p_value(row.means) for row in found.values()]
    assert stats.kstest(p, "uniform").statistic < 0.1
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09


def test_a_difference_is_found_and_its_size_matters():
    rng = np.random.default_rng(5)
    tables = crossed(rng, 1, 5, 300, (0.01, 0.3, 0.3))[0]
    p = [p_value(bootstrap({0: [tables + gap]})[0].means) for gap in (0.0, 0.03, 0.2)]
    assert p[0] > p[1] > p[2] == pytest.approx(2 / (RESAMPLES + 1))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.0] * 9, 1.0),
        ([0.1] * 9, 0.2),
        ([-0.1] * 9, 0.2),
        ([1e-17, -1e-17, 3e-17] * 3, 1.0),  # zero but for rounding
        ([-0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 0.4),
    ],
)
def test_p_values_of_few_resamples_by_hand(differences, p):
    assert p_value(np.array(differences)) == pytest.approx(p)


def test_p_is_below_5_percent_where_the_interval_leaves_out_0():
    rng = np.random.default_rng(6)
    for gap in np.linspace(0.03, 0.08, 30):
        found = bootstrap({0: [rng.normal(gap, 0.3, (1, 100))]})[0]
        if abs(found.low) > 0.002:  # apart from the edge, where the two round differently
            assert (p_value(found.means) < 0.05) == (found.low > 0)


def test_holm_by_hand():
    # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 raised to the one before.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}
