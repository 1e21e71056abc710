"""Partial correlation and the mixed model against statsmodels' formulas and simulated truths."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.formula.api
from scipy.stats import rankdata

from gapbench.evaluate.statistics.adjusted import main_effects, mixed_model, partial_correlation
from gapbench.evaluate.statistics.design import Design


def zoo(seed=0, seeds=3, effect=1.0):
    rng = np.random.default_rng(seed)
    rows = itertools.product(range(3), range(2), range(2), (0.0, 0.5), range(seeds))
    runs = pd.DataFrame(rows, columns=["A", "B", "D", "label_noise", "seed"])
    runs = runs[rng.random(len(runs)) < 0.9].reset_index(drop=True)
    design = Design.of(runs, ["A", "B", "D"])
    main = runs["A"] + 2 * runs["B"] + 4 * runs["label_noise"]
    shared = rng.standard_normal(2 * design.recipes)[2 * design.recipe + design.level]
    x = (main + effect * shared + 0.5 * rng.standard_normal(len(runs))).to_numpy()
    y = (main + shared + 0.5 * rng.standard_normal(len(runs))).to_numpy()
    return runs, design, x, y


def test_partial_correlation_is_that_of_residuals():
    runs, design, x, y = zoo()
    x = np.where(np.arange(len(x)) == 4, np.nan, x)
    kept = np.isfinite(x)
    frame = runs[kept].assign(x=rankdata(x[kept]), y=rankdata(y[kept]))
    left = [statsmodels.formula.api.ols(f"{v} ~ C(A)+C(B)+C(D)+C(label_noise)", frame).fit().resid for v in "xy"]
    found = partial_correlation(x, y, design)
    assert found.point == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-10)
    assert found.n == kept.sum()
    fit = statsmodels.formula.api.ols("y ~ x + C(A)+C(B)+C(D)+C(label_noise)", frame).fit(
        cov_type="cluster", cov_kwds={"groups": design.recipe[kept]}, use_t=True
    )
    scale = found.point / fit.params["x"]
    assert (found.low, found.high) == pytest.approx(tuple(fit.conf_int().loc["x"] * scale), rel=1e-8)


def test_it_takes_out_what_the_design_explains():
    _, design, x, y = zoo(effect=0.0)
    assert np.corrcoef(x, y)[0, 1] > 0.6
    found = partial_correlation(x, y, design)
    assert abs(found.point) < 0.35
    _, design, x, y = zoo(effect=1.0)
    assert partial_correlation(x, y, design).low > 0.3


def test_a_measure_of_the_design_alone_is_undefined():
    runs, design, _, y = zoo()
    assert np.isnan(partial_correlation(runs["B"].to_numpy(float), y, design).point)
    assert np.isnan(mixed_model(runs["B"].to_numpy(float), y, design).point)
    assert np.isnan(partial_correlation(np.full(len(y), np.nan), y, design).point)


@pytest.mark.parametrize("effect", [1.0, 0.0])
def test_mixed_model_maximises_the_restricted_likelihood(effect):
    _, design, x, y = zoo(effect=effect)
    x, y = (rankdata(values) / rankdata(values).std() for values in (x, y))
    group = np.unique(2 * design.recipe + design.level, return_inverse=True)[1]
    matrix, same = np.column_stack([x, main_effects(design)]), (group[:, None] == group).astype(float)

    def fit(ratio):
        """Generalised least squares where a configuration's variance is so many times a run's."""
        inverse = np.linalg.inv(np.eye(len(y)) + ratio * same)
        information = matrix.T @ inverse @ matrix
        beta = np.linalg.solve(information, matrix.T @ inverse @ y)
        left = y - matrix @ beta
        variance = left @ inverse @ left / (len(y) - matrix.shape[1])
        logs = [np.linalg.slogdet(found)[1] for found in (inverse, information)]
        minus_likelihood = (len(y) - matrix.shape[1]) * np.log(variance) - logs[0] + logs[1]
        return minus_likelihood, beta[0], np.sqrt(variance * np.linalg.inv(information)[0, 0])

    best = scipy.optimize.minimize_scalar(lambda ratio: fit(ratio)[0], bounds=(0, 100), options={"xatol": 1e-9})
    found = mixed_model(x, y, design)
    assert found.point == pytest.approx(fit(best.x)[1], abs=1e-6)
    # The error is of the observed information, in which the variances' uncertainty enters.
    t = scipy.stats.t.ppf(0.975, group.max())
    assert (found.high - found.low) / 2 == pytest.approx(t * fit(best.x)[2], rel=0.25)
    if effect == 0.0:
        assert abs(fit(0.0)[1] - found.point) > 0.01  # without the random effect


def test_mixed_model_needs_seeds():
    _, design, x, y = zoo(seeds=1)
    assert np.isnan(mixed_model(x, y, design).point)
    assert np.isfinite(partial_correlation(x, y, design).point)


def test_main_effects_have_full_rank_on_a_grid_with_a_redundant_axis():
    runs = pd.DataFrame({"A": [0, 0, 1, 1, 2, 2], "same": [0, 0, 1, 1, 2, 2], "B": [0, 1, 0, 1, 0, 1]})
    matrix = main_effects(Design.of(runs, ["A", "same", "B"]))
    assert matrix.shape[1] == np.linalg.matrix_rank(matrix) == 4
