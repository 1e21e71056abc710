"""Exact bootstrap replicates of tau, and tau of many models, against scipy on the resampled table."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from gapbench.evaluate.statistics import dominance
from gapbench.evaluate.statistics.dominance import Dominance, GapTree, prefix_sums
from gapbench.evaluate.statistics.resampled_tau import kendall_tau, resampled_tau


@pytest.mark.parametrize(("values", "leaf"), [(5, 192), (40, 192), (40, 16), (10**6, 16), (10**6, 192)])
def test_resamples_agree_with_scipy_on_the_resampled_table(values, leaf, monkeypatch):
    monkeypatch.setattr(dominance, "LEAF", leaf)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, values, (300, 3)).astype(float), rng.integers(0, values, 300).astype(float)
    counts = rng.multinomial(300, np.full(300, 1 / 300), size=6)
    sums = resampled_tau(x, y, counts)
    for resample, measure in np.ndindex(6, 3):
        rows = np.repeat(np.arange(300), counts[resample])
        expected = scipy.stats.kendalltau(x[rows, measure], y[rows]).statistic
        assert sums.tau_b()[measure, resample] == pytest.approx(expected, abs=1e-12)
    signs = np.sign(x[rows, 0][:, None] - x[rows, 0]) * np.sign(y[rows][:, None] - y[rows])
    assert sums.tau_a()[0, 5] == pytest.approx(signs.sum() / (300 * 299), abs=1e-12)


def test_resamples_are_of_the_counts_that_are_given():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 250))
    counts = np.ones((2, 250), int)
    counts[1, :125], counts[1, 125:] = 2, 0
    found = resampled_tau(x[:, None], y, counts).tau_b()[0]
    assert found[0] == pytest.approx(scipy.stats.kendalltau(x, y).statistic, abs=1e-12)
    assert found[1] == pytest.approx(scipy.stats.kendalltau(x[:125], y[:125]).statistic, abs=1e-12)
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize("values", [4, 10**6])
def test_dominance_agrees_with_naive_loops(values, monkeypatch):
    monkeypatch.setattr(dominance, "LEAF", 8)
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, values, (2, 90)).astype(float)
    weights = rng.integers(0, 4, (90, 2)).astype(np.float32)
    tree = GapTree.of(y)
    assert len(tree.merges) > 0
    made = Dominance(x, tree)
    smaller, larger = made.parts(weights[tree.order])
    net = made.net(weights[tree.order])
    for place, i in enumerate(tree.order):
        below = [j for j in range(90) if y[j] < y[i]]
        assert (smaller[place] == sum((weights[j] for j in below if x[j] < x[i]), np.zeros(2))).all()
        assert (larger[place] == sum((weights[j] for j in below if x[j] > x[i]), np.zeros(2))).all()
        assert (net[place] == smaller[place] - larger[place]).all()


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 300])
def test_prefix_sums(rows):
    values = np.random.default_rng(0).integers(0, 9, (rows, 3)).astype(np.float32)
    assert (prefix_sums(values)[1:] == np.cumsum(values, axis=0)).all()
    assert (prefix_sums(values)[0] == 0).all()


def test_tau_of_many_models():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 20, (200, 4)).astype(float), rng.integers(0, 30, 200).astype(float)
    x[:, 3] = 1.0
    tau_a, tau_b = kendall_tau(x, y)
    signs = np.sign(y[:, None] - y)
    for column in range(3):
        concordance = (np.sign(x[:, column, None] - x[:, column]) * signs).sum()
        assert tau_a[column] == pytest.approx(concordance / (200 * 199), abs=1e-12)
        assert tau_b[column] == pytest.approx(scipy.stats.kendalltau(x[:, column], y).statistic, abs=1e-12)
    assert tau_a[3] == 0
    assert np.isnan(tau_b[3])
    assert np.isnan(kendall_tau(x[:1], y[:1])[0]).all()
