"""The statistics of the leaderboard, against independent computation and by simulation."""

from __future__ import annotations

import warnings
from math import sqrt

import numpy as np
import pandas as pd
import pytest
import simulate_statistics as simulation
import statsmodels.api as sm
from scipy import stats
from simulate_statistics import LEVEL, Line, as_row, line, lines, read_rows
from statsmodels.formula.api import ols

from support import ROOT
from zipeft.leaderboard.statistics import LEAST_P, Estimate, Part, estimate, holm

DOCUMENT = ROOT / "docs" / "statistics.md"


def crossed(rng, seeds: int, items: int, spread=(0.1, 0.3, 0.3)) -> np.ndarray:
    """Return a table of mean 0: effects of seeds, of items, and of both together."""
    parts = zip(((seeds, 1), (1, items), (seeds, items)), spread, strict=True)
    return sum(rng.normal(0, scale, shape) for shape, scale in parts)


def mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of seeds, of items and of the rest, by statsmodels."""
    seeds, items = np.indices(table.shape)
    frame = pd.DataFrame({"score": table.ravel(), "seed": seeds.ravel(), "item": items.ravel()})
    found = sm.stats.anova_lm(ols("score ~ C(seed) + C(item)", frame).fit())
    return tuple(found["sum_sq"] / found["df"])


@pytest.mark.parametrize("shape", [(3, 4), (2, 9), (5, 12)])
def test_the_parts_are_those_of_the_analysis_of_variance(shape):
    rng = np.random.default_rng(7)
    tables = [crossed(rng, *shape), crossed(rng, shape[0], 6)]
    of_seeds, of_items, rest = mean_squares(tables[0])
    found = estimate(tables[:1])
    assert found.mean == pytest.approx(tables[0].mean())
    assert found.seeds.variance == pytest.approx(of_seeds / tables[0].size)
    assert found.noise.variance == pytest.approx(rest / tables[0].size)
    assert found.items[0].variance == pytest.approx(max(0, of_items - rest) / tables[0].size)
    freedoms = (shape[0] - 1, (shape[0] - 1) * (shape[1] - 1), shape[1] - 1)
    assert (found.seeds.freedom, found.noise.freedom, found.items[0].freedom) == freedoms
    assert found.seed_ratio == pytest.approx(sqrt(max(0, of_seeds - rest) / of_items))
    # Of several data sets each has its items' part, while seeds are in common.
    both = estimate(tables)
    own = [estimate([table]) for table in tables]
    by_seed = (tables[0].mean(1) + tables[1].mean(1)) / 2
    assert both.seeds.variance == pytest.approx(stats.sem(by_seed) ** 2)
    assert both.noise.variance == pytest.approx(sum(each.noise.variance for each in own) / 4)
    assert [part.variance for part in both.items] == pytest.approx([each.items[0].variance / 4 for each in own])
    assert [part.freedom for part in both.items] == [shape[1] - 1, 5]


@pytest.mark.parametrize("shape", [(1, 30), (6, 1)], ids=["one seed", "no items"])
def test_one_source_alone_gives_students_t(shape):
    table = np.random.default_rng(1).normal(0.3, 0.4, shape)
    found, own = estimate([table]), stats.ttest_1samp(table.ravel(), 0)
    assert found.interval() == pytest.approx(tuple(own.confidence_interval()))
    assert found.p_value() == pytest.approx(own.pvalue)
    assert found.seed_ratio is None


def test_the_interval_adds_squared_half_widths_by_hand():
    found = Estimate(0.5, Part(0.01, 2), Part(0.002, 198), (Part(0.04, 99),))
    half = sqrt(0.01 * 4.302653**2 + 0.04 * 1.984217**2)
    assert found.interval() == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    # Seeds that agree by chance are no surer than the noise in each.
    found = Estimate(0.5, Part(0.0, 2), Part(0.002, 198), (Part(0.04, 99),))
    half = sqrt(0.002 * 1.972017**2 + 0.04 * 1.984217**2)
    assert found.interval() == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_p_is_below_a_level_where_its_interval_leaves_out_0():
    rng = np.random.default_rng(6)
    for gap in np.linspace(0.0, 0.6, 20):
        found = estimate([gap + crossed(rng, 3, 40)])
        p = found.p_value()
        assert found.half_width(p) == pytest.approx(abs(found.mean))
        for level in (0.2, 0.05, 0.001):
            assert (p < level) == (found.half_width(level) < abs(found.mean))


@pytest.mark.parametrize(
    ("table", "low", "high", "p"),
    [
        (np.full((3, 50), 0.7), 0.7, 0.7, LEAST_P),
        (np.full((3, 50), 0.0), 0.0, 0.0, 1.0),
        (np.full((3, 50), 1e-17), 0.0, 0.0, 1.0),  # zero but for rounding
        (np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]), 0.2 - 0.248414, 0.2 + 0.248414, 0.0741799),
        (np.array([[0.3], [0.3 + 1e-16], [0.1 + 0.2]]), 0.3, 0.3, 0.0),  # all but no variation
        (np.array([[0.1], [0.2], [0.3]]), 0.2 - 0.248414, 0.2 + 0.248414, 0.0741799),
    ],
    ids=["no variation", "zero", "rounding", "no variation of items", "rounding of seeds", "one item"],
)
def test_degenerate_tables_have_an_interval(table, low, high, p):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = estimate([table])
        assert found.interval() == pytest.approx((low, high), abs=1e-6)
        assert found.p_value() == pytest.approx(p, abs=1e-6)


def test_a_single_number_has_no_interval():
    for tables in ([np.array([[0.5]])], [np.array([[0.5]]), np.array([[0.7]])]):
        found = estimate(tables)
        assert (found.seeds, found.items, found.interval(), found.seed_ratio) == (None, (), None, None)


# Where the truth is known.


def holds(found: Line, tables: int, families: int) -> None:
    """Fail if a rate is on the wrong side of its level by more than chance explains, three standard errors."""

    def most(level: float, number: int) -> float:
        return 100 * (level + 3 * sqrt(level * (1 - level) / number))

    assert found.coverage >= 100 - most(LEVEL, tables), found
    assert found.one_pair <= most(LEVEL, tables), found
    assert found.first_of_holm <= most(LEVEL / simulation.PAIRS, tables), found
    assert found.any_of_pairs <= most(LEVEL, families), found


@pytest.mark.parametrize(("seeds", "ratio"), [(3, 0.0), (3, 4.0), (5, 2.0)])
def test_level_and_coverage_hold_in_a_short_simulation(seeds, ratio):
    holds(line(seeds, ratio, tables=400, families=20), 400, 20)


@pytest.mark.slow
def test_level_and_coverage_hold_in_every_cell_of_the_document():
    documented = read_rows(DOCUMENT.read_text(encoding="utf-8"))
    found = list(lines())
    for each in found:
        holds(each, simulation.TABLES, simulation.FAMILIES)
    # The draws are seeded: the table is made again. A rate may lie on an edge that processors round differently.
    assert len(documented) == len(found)
    for theirs, ours in zip(documented, found, strict=True):
        assert vars(theirs) == pytest.approx(vars(ours), abs=0.4), as_row(ours)


def test_level_holds_where_answers_are_right_or_wrong():
    # Two methods that differ in few answers often differ by the very same number of them from all three seeds.
    rng, gaps = np.random.default_rng(8), []
    for _ in range(1500):
        differ, right = rng.random((3, 60)) < 0.1, rng.random((3, 60)) < 0.5
        gaps.append(estimate([differ * np.where(right, 1.0, -1.0)]))
    for level in (LEVEL, LEVEL / simulation.PAIRS):
        wrong = np.mean([simulation.is_wrong(gap, level) for gap in gaps])
        assert wrong <= level + 3 * sqrt(level / 1500)


def test_a_difference_is_found_and_its_size_matters():
    table = crossed(np.random.default_rng(5), 5, 300, (0.01, 0.3, 0.3))
    p = [estimate([table + gap]).p_value() for gap in (0.0, 0.03, 0.2)]
    assert p[0] > p[1] > p[2]
    assert p[2] < 1e-3


def test_holm_by_hand():
    # 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 raised to the one before.
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.7, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.03}) == {"a": 0.03}
    assert holm({}) == {}
