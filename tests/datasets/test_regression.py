from __future__ import annotations

import numpy
import pytest

from gapbench.datasets.errors import InputError
from gapbench.datasets.regression import LinearModel, linear_regression, random_features

MODEL = LinearModel(numpy.array([4.0, 1.0, 0.25]), numpy.array([1.0, -2.0, 3.0]), 0.5)


def test_the_sample_has_the_stated_covariance_and_noise() -> None:
    sample = linear_regression(MODEL, 200_000, numpy.random.default_rng(0))
    covariance = sample.inputs.T @ sample.inputs / 200_000
    assert numpy.allclose(covariance, numpy.diag(MODEL.spectrum), atol=0.05)
    noise = sample.targets - sample.inputs @ MODEL.coefficients
    assert noise.std() == pytest.approx(0.5, rel=0.01)


def test_the_excess_risk_is_the_mean_squared_difference_over_fresh_inputs() -> None:
    estimate = numpy.array([0.5, 0.0, 1.0])
    fresh = linear_regression(MODEL, 400_000, numpy.random.default_rng(1)).inputs
    assert MODEL.excess_risk(estimate) == pytest.approx(
        float(((fresh @ (estimate - MODEL.coefficients)) ** 2).mean()), rel=0.02
    )
    assert MODEL.excess_risk(MODEL.coefficients) == 0


def test_smaller_samples_and_feature_sets_are_parts_of_larger_ones() -> None:
    small = linear_regression(MODEL, 5, numpy.random.default_rng(2))
    large = linear_regression(MODEL, 9, numpy.random.default_rng(2))
    assert numpy.array_equal(small.inputs, large.inputs[:5])
    assert numpy.array_equal(small.targets, large.targets[:5])
    few, chosen = random_features(MODEL, 5, 1, numpy.random.default_rng(3))
    more, chosen_more = random_features(MODEL, 5, 2, numpy.random.default_rng(3))
    assert few.inputs.shape == (5, 1)
    assert chosen[0] == chosen_more[0]
    assert numpy.array_equal(few.inputs[:, 0], more.inputs[:, 0])
    assert numpy.array_equal(few.targets, more.targets)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match="as many coefficients"):
        LinearModel(numpy.ones(3), numpy.ones(2), 0.1)
    with pytest.raises(InputError, match="at least 0"):
        LinearModel(numpy.ones(2), numpy.ones(2), -0.1)
    with pytest.raises(InputError, match="4 of 3"):
        random_features(MODEL, 5, 4, numpy.random.default_rng(0))
