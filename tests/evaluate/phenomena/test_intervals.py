from __future__ import annotations

import math

import numpy
import pandas
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from gapbench.evaluate.phenomena.intervals import (
    bump,
    curves,
    geometric_mean_interval,
    log_slope,
    mean_interval,
    peak_interval,
    share_interval,
    slope_interval,
    spearman_interval,
)


def test_the_mean_has_students_interval() -> None:
    values = numpy.random.default_rng(0).normal(size=9)
    found = mean_interval([*values, math.nan])
    low, high = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    assert (found.point, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.n == 9


def test_the_mean_interval_covers_as_often_as_it_says() -> None:
    rng = numpy.random.default_rng(1)
    intervals = [mean_interval(rng.normal(size=5)) for _ in range(2000)]
    assert numpy.mean([one.low <= 0 <= one.high for one in intervals]) == pytest.approx(0.95, abs=0.02)


def test_too_few_values_have_no_bounds_and_equal_ones_no_width() -> None:
    assert math.isnan(mean_interval([]).point)
    one = mean_interval([2.0])
    assert (one.point, one.n) == (2.0, 1)
    assert math.isnan(one.low)
    equal = mean_interval([3.0, 3.0, 3.0])
    assert (equal.low, equal.high) == (3.0, 3.0)


def test_ratios_are_averaged_as_logarithms() -> None:
    assert geometric_mean_interval([0.5, 2.0]).point == pytest.approx(1.0)
    with pytest.raises(ValueError, match="positive values, not 0"):
        geometric_mean_interval([1.0, 0.0])


@pytest.mark.parametrize(("successes", "trials"), [(0, 8), (3, 8), (8, 8)])
def test_shares_have_wilsons_interval(successes: int, trials: int) -> None:
    found = share_interval(successes, trials)
    assert (found.low, found.high) == pytest.approx(proportion_confint(successes, trials, method="wilson"), abs=1e-9)


def test_a_power_law_has_its_exponent() -> None:
    x = numpy.array([1.0, 2.0, 4.0, 8.0])
    assert log_slope(x, 3 * x**-0.5) == pytest.approx(-0.5)
    assert math.isnan(log_slope([1.0], [1.0]))
    rows = [{"seed": seed, "n": n, "error": 2 * n ** (-0.5 + 0.01 * seed)} for seed in range(3) for n in x]
    assert slope_interval(pandas.DataFrame(rows), "n", "error").point == pytest.approx(-0.49)


def test_rank_correlation_is_taken_inside_units() -> None:
    # Between the two units the relation is reversed; inside each it is perfect.
    rows = [{"seed": s, "x": 10.0 * s + i, "y": i - 20.0 * s} for s in range(2) for i in range(5)]
    table = pandas.DataFrame(rows)
    assert spearman_interval(table, "x", "y").point == pytest.approx(1.0)
    assert stats.spearmanr(table["x"], table["y"]).statistic < 0


def noisy(shape: numpy.ndarray, seed: int, units: int = 6) -> numpy.ndarray:
    return shape + 0.05 * numpy.random.default_rng(seed).normal(size=(units, len(shape)))


def test_a_bump_is_found_and_monotone_noise_is_none() -> None:
    rise, fall = bump(noisy(numpy.array([1.0, 0.5, 0.3, 0.8, 1.2, 0.7, 0.2]), 0))
    assert rise.low > 0.5
    assert fall.low > 0.5
    for shape in (numpy.linspace(1, 0, 7), numpy.linspace(0, 1, 7)):
        seen = [all(one.low > 0 for one in bump(noisy(shape, seed))) for seed in range(60)]
        assert numpy.mean(seen) < 0.1


def test_flat_noise_earns_no_bump_though_a_choice_on_itself_would() -> None:
    flat = [noisy(numpy.zeros(12), seed) for seed in range(100)]
    assert numpy.mean([all(one.low > 0 for one in bump(values)) for values in flat]) < 0.06
    # Positive control: the largest rise of the mean curve itself is always positive.
    assert all(values.mean(axis=0).max() > values.mean(axis=0).min() for values in flat)


def test_the_peak_is_where_it_is() -> None:
    places = numpy.array([1.0, 2.0, 3.0, 4.0])
    values = noisy(numpy.array([0.0, 0.2, 1.0, 0.1]), 0)
    found = peak_interval(places, values, numpy.random.default_rng(0))
    assert (found.point, found.low, found.high) == (3.0, 3.0, 3.0)


def test_curves_are_sorted_and_one_a_unit() -> None:
    table = pandas.DataFrame({"seed": [0, 0, 1, 1], "x": [2, 1, 1, 2], "y": [5.0, 4.0, 6.0, 7.0]})
    places, values = curves(table, "x", "y")
    assert places.tolist() == [1, 2]
    assert values.tolist() == [[4, 5], [6, 7]]
