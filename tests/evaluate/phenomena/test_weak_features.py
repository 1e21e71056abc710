"""The exact risk against the closed form of Belkin, Hsu & Xu 2020, and the best ridge."""

from __future__ import annotations

import math

import numpy
import pandas
import pytest

from gapbench.evaluate.phenomena.bench import Bench
from gapbench.evaluate.phenomena.weak_features import (
    NOISE_STD,
    TOTAL,
    backtracking,
    best_ridge,
    estimates,
    model,
    ridgeless_risk,
    sweep,
)


def test_the_mean_risk_is_the_closed_form() -> None:
    rows = [row for seed in range(300) for row in sweep([(20, 8), (20, 60)], seed, Bench("tests"))]
    table = pandas.DataFrame(rows)
    for _, some in table.groupby("p"):
        error = some["risk"].std() / math.sqrt(len(some))
        closed = some["closed_form"].iloc[0]
        assert abs(some["risk"].mean() - closed) < 4 * error
        # Positive control: with 40 % more examples the formula is another number.
        assert abs(some["risk"].mean() - ridgeless_risk(28, int(some["p"].iloc[0]), 0.04, 1.2)) > 4 * error


def test_the_closed_form_diverges_at_the_threshold_and_tends_to_the_null_risk() -> None:
    assert math.isinf(ridgeless_risk(40, 40, 0.2, 1.0))
    assert math.isinf(ridgeless_risk(40, 41, 0.2, 1.0))
    assert ridgeless_risk(40, 38, 0.2, 1.0) == pytest.approx(39)
    # With far more features than examples nothing is learned: the risk is that of predicting 0.
    assert ridgeless_risk(40, 10**9, 0.2, 1.0) == pytest.approx(1.2)


def test_the_best_ridge_is_best_on_average() -> None:
    law, n, rng = model(), 20, numpy.random.default_rng(0)
    p = 30
    signal, rest = p / TOTAL, 1 - p / TOTAL + NOISE_STD**2
    ridge, risks = best_ridge(p, signal, rest), dict.fromkeys((0.25, 1.0, 4.0), 0.0)
    for _ in range(400):
        x = rng.standard_normal((n, TOTAL))
        y = x @ law.coefficients + NOISE_STD * rng.standard_normal(n)
        for factor in risks:
            full = numpy.zeros(TOTAL)
            full[:p] = estimates(x[:, :p], y, factor * ridge)[1]
            risks[factor] += law.excess_risk(full)
    assert risks[1.0] < min(risks[0.25], risks[4.0])


def test_the_estimates_are_those_of_numpy() -> None:
    rng = numpy.random.default_rng(1)
    for shape in ((10, 4), (4, 10)):
        x, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
        least_norm, ridged = estimates(x, y, 0.7)
        assert numpy.allclose(least_norm, numpy.linalg.pinv(x) @ y)
        assert numpy.allclose(ridged, numpy.linalg.solve(x.T @ x + 0.7 * numpy.eye(shape[1]), x.T @ y))


def test_backtracking_is_0_for_a_falling_curve_only() -> None:
    assert backtracking(numpy.array([3.0, 2.0, 1.0])) == 0
    assert backtracking(numpy.array([3.0, 1.0, 2.0])) == pytest.approx(0.5)
