"""Spearman's rho against scipy, and its intervals against resampling and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.spearman import spearman, spearman_estimates, spearman_replicates


def zoo(recipes=12, seeds=3):
    runs = pd.DataFrame(itertools.product(range(recipes), range(seeds)), columns=["width", "seed"])
    return Design.of(runs, ["width"])


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scipy_ties_and_missing_values_included(seed):
    rng = np.random.default_rng(seed)
    design = zoo()
    x, y = rng.integers(0, 7, (2, len(design))).astype(float)
    x[::7], y[3] = np.nan, np.inf
    both = np.isfinite(x) & np.isfinite(y)
    found = spearman(x, y, design)
    assert found.point == pytest.approx(scipy.stats.spearmanr(x[both], y[both]).statistic, abs=1e-12)
    assert found.n == both.sum()
    assert found.low < found.point < found.high


def test_a_constant_is_undefined_and_a_perfect_measure_is_one():
    design, y = zoo(), np.random.default_rng(0).standard_normal(36)
    assert np.isnan(spearman(np.ones(36), y, design).point)
    perfect = spearman(np.exp(y), y, design)
    assert perfect.point == perfect.high == 1.0
    assert 0.4 < perfect.low < 1.0
    assert spearman(-y, y, design).point == -1.0


def test_the_influence_is_the_derivative_by_a_recipes_weight():
    rng = np.random.default_rng(0)
    design = zoo(8, 2)
    x, y = rng.integers(0, 6, (2, 16)).astype(float)

    def weighted(w):
        w = w[design.recipe]
        a = (np.sign(x[:, None] - x) * w).sum(axis=1)
        b = (np.sign(y[:, None] - y) * w).sum(axis=1)
        return (w * a * b).sum() / np.sqrt((w * a * a).sum() * (w * b * b).sum())

    influence = spearman_estimates(x[:, None], y, design)[0].influence
    ones = np.ones(8)
    assert weighted(ones) == pytest.approx(spearman(x, y, design).point, abs=1e-12)
    for recipe in range(8):
        step = 1e-6 * (np.arange(8) == recipe)
        slope = (weighted(ones + step) - weighted(ones - step)) / 2e-6
        assert influence[recipe] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_intervals_cover(rho):
    rng = np.random.default_rng(1)
    design, found = zoo(30, 2), []
    alone, wrong = zoo(60, 1), []
    for _ in range(300):
        effect = rng.standard_normal((2, 30))
        other = rho * effect[0] + np.sqrt(1 - rho**2) * effect[1]
        noise = 0.3 * rng.standard_normal((2, 60))
        x, y = effect[0][design.recipe] + noise[0], other[design.recipe] + noise[1]
        found.append(spearman(x, y, design))
        wrong.append(spearman(x, y, alone))
    truth = np.mean([interval.point for interval in found])
    coverage, without = (np.mean([i.low <= truth <= i.high for i in intervals]) for intervals in (found, wrong))
    assert 0.91 <= coverage <= 0.985
    assert without < coverage - 0.05  # seeds taken for recipes


def test_the_bootstrap_has_its_variance():
    rng = np.random.default_rng(0)
    design = zoo(40, 1)
    x, y = rng.standard_normal((2, 40))
    estimate = spearman_estimates((x + y)[:, None], y, design)[0]
    direct = []
    for _ in range(1500):
        rows = rng.integers(0, 40, 40)
        direct.append(scipy.stats.spearmanr((x + y)[rows], y[rows]).statistic)
    assert np.sqrt(estimate.variance) == pytest.approx(np.std(direct), rel=0.15)


def test_replicates_agree_with_one_at_a_time():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (20, 3)).astype(float), rng.integers(0, 9, (20, 4)).astype(float)
    found = spearman_replicates(x, y)
    for i, j in itertools.product(range(3), range(4)):
        assert found[i, j] == pytest.approx(scipy.stats.spearmanr(x[:, i], y[:, j]).statistic, abs=1e-12)
