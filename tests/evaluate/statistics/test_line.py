"""The least-squares line against numpy and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.api

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.line import least_squares_line


def zoo(recipes=15, seeds=3):
    runs = pd.DataFrame(itertools.product(range(recipes), range(seeds)), columns=["width", "seed"])
    return Design.of(runs, ["width"])


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-200, 0.0), (1e150, 0.0), (1.0, 1e6)])
def test_agrees_with_statsmodels(scale, shift):
    rng = np.random.default_rng(0)
    design = zoo()
    x = rng.standard_normal(45)
    y = 3 + 2 * x + rng.standard_normal(15)[design.recipe] + rng.standard_normal(45)
    found = least_squares_line(scale * x + shift, y, design)
    fit = statsmodels.api.OLS(y, np.column_stack([np.ones(45), x])).fit(
        cov_type="cluster", cov_kwds={"groups": design.recipe}, use_t=True
    )
    bounds = fit.conf_int()
    assert found.slope.point * scale == pytest.approx(fit.params[1], rel=1e-8)
    assert (found.slope.low * scale, found.slope.high * scale) == pytest.approx(tuple(bounds[1]), rel=1e-7)
    assert found.r2.point == pytest.approx(fit.rsquared, rel=1e-8)
    assert found.rmse.point == pytest.approx(np.sqrt(fit.ssr / 45), rel=1e-8)
    if shift == 0:
        assert found.intercept.point == pytest.approx(fit.params[0], rel=1e-8)
        assert (found.intercept.low, found.intercept.high) == pytest.approx(tuple(bounds[0]), rel=1e-7)
    not_clustered = fit.model.fit(cov_type="HC1", use_t=True).conf_int()[0]
    assert tuple(not_clustered) != pytest.approx(tuple(bounds[0]), rel=0.05)


def test_a_constant_measure_or_target_and_few_models():
    y = np.array([1.0, 2.0, 4.0])
    flat = least_squares_line(np.full(3, 0.1), y, zoo(3, 1))
    assert (flat.r2.point, flat.rmse.point) == (0.0, pytest.approx(y.std()))
    assert np.isnan(flat.slope.point)
    constant = least_squares_line(y, np.full(3, 0.1), zoo(3, 1))
    assert (constant.slope.point, constant.rmse.point) == (0.0, 0.0)
    assert np.isnan(constant.r2.point)
    two = least_squares_line(np.array([0.1, 0.7, np.nan]), y, zoo(3, 1))
    assert (two.r2.point, two.rmse.point, two.rmse.n) == (1.0, 0.0, 2)
    assert np.isnan([two.r2.low, two.rmse.low, two.slope.low]).all()
    one = least_squares_line(np.array([0.1, np.nan, np.nan]), y, zoo(3, 1))
    assert np.isnan([one.r2.point, one.rmse.point, one.slope.point]).all()
    assert one.rmse.n == 1


@pytest.mark.parametrize("rho", [0.3, 0.9])
def test_the_interval_of_r2_and_rmse_cover(rho):
    rng = np.random.default_rng(0)
    design, covered = zoo(40, 1), []
    for _ in range(400):
        x, e = rng.standard_normal((2, 40))
        found = least_squares_line(x, rho * x + np.sqrt(1 - rho**2) * e, design)
        covered.append(
            (found.r2.low <= rho**2 <= found.r2.high, found.rmse.low <= np.sqrt(1 - rho**2) <= found.rmse.high)
        )
    r2, rmse = np.mean(covered, axis=0)
    assert 0.89 <= r2 <= 0.985
    assert 0.85 <= rmse <= 0.985
