"""R² and its interval."""

from __future__ import annotations

import numpy
import pytest
from sklearn.metrics import r2_score

from gapbench.evaluate.phenomena.weights_predict_accuracy import FEATURES, determination, determination_interval


def test_it_is_the_coefficient_of_determination() -> None:
    rng = numpy.random.default_rng(0)
    truth = rng.normal(size=80)
    guess = truth + 0.3 * rng.normal(size=80)
    assert determination(truth, guess) == pytest.approx(r2_score(truth, guess))
    found = determination_interval(truth, guess)
    assert found.low < found.point < found.high
    assert determination(truth, numpy.full(80, truth.mean())) == pytest.approx(0)


def test_the_features_are_the_statistics_of_three_parts() -> None:
    assert len(FEATURES) == 21
