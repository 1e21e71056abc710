"""The random intercept against statsmodels' mixed model."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM

from gapbench.evaluate.statistics.random_intercept import random_intercept


def data(groups, size, effect, shared, seed=0):
    """Groups of unequal sizes, whose effect on the response may be correlated with the first column."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    group = np.unique(group[rng.random(len(group)) < 0.9], return_inverse=True)[1]
    u = rng.standard_normal(groups)[group]
    x = shared * u + rng.standard_normal(len(group))
    response = effect * u + 0.5 * x + rng.standard_normal(len(group))
    return response, np.column_stack([x, np.ones(len(group)), group % 2, group % 3 == 0]).astype(float), group


@pytest.mark.parametrize(
    ("groups", "size", "effect", "shared"),
    [(40, 3, 1.0, 1.0), (30, 10, 0.5, 0.0), (60, 2, 3.0, 0.5), (30, 4, 0.4, 0.2), (10, 30, 9.0, 1.0)],
)
def test_coefficients_errors_and_variances_are_statsmodels(groups, size, effect, shared):
    response, matrix, group = data(groups, size, effect, shared)
    found = random_intercept(response, matrix, group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = MixedLM(response, matrix, groups=group).fit(reml=True, method="powell", xtol=1e-10, ftol=1e-12)
    assert found.ratio > 0
    assert found.ratio == pytest.approx(fit.cov_re[0, 0] / fit.scale, rel=1e-4)
    np.testing.assert_allclose(found.coefficients, fit.params[:4], rtol=1e-5)
    np.testing.assert_allclose(found.errors, fit.bse[:4], rtol=1e-5)


def test_without_an_effect_of_the_group_it_is_least_squares():
    response, matrix, group = data(40, 3, 0.0, 1.0)
    found = random_intercept(response, matrix, group)
    fit = OLS(response, matrix).fit()
    assert found.ratio == 0.0
    np.testing.assert_allclose(found.coefficients, fit.params, rtol=1e-10)
    np.testing.assert_allclose(found.errors, fit.bse, rtol=1e-10)


def test_nothing_to_explain_or_redundant_columns_are_refused():
    response, matrix, group = data(10, 3, 1.0, 0.0)
    with pytest.raises(np.linalg.LinAlgError):
        random_intercept(np.zeros(len(response)), matrix, group)
    with pytest.raises(np.linalg.LinAlgError):
        random_intercept(response, np.column_stack([matrix, np.zeros(len(response))]), group)
