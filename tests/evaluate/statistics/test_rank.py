"""Kendall's tau against scipy, naive loops, and the numbers of a worked example."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.datasets.errors import InputError
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.rank import (
    noise_strata,
    tau_a,
    tau_b,
    tau_estimates,
    tau_replicates,
    varying_levels,
    within_noise_replicates,
    within_noise_tau,
)


def zoo(values=(2, 3), noises=(0.0, 0.5), seeds=2):
    axes = [f"axis{i}" for i in range(len(values))]
    rows = itertools.product(*(range(k) for k in values), noises, range(seeds))
    runs = pd.DataFrame(rows, columns=[*axes, "label_noise", "seed"])
    return runs, Design.of(runs, axes)


def flat(n):
    runs = pd.DataFrame({"width": np.arange(n)})
    return Design.of(runs, ["width"])


def naive_sums(x, y):
    concordance = untied_x = untied_y = pairs = 0
    for i in range(len(x)):
        for j in range(i):
            concordance += np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
            untied_x += x[i] != x[j]
            untied_y += y[i] != y[j]
            pairs += 1
    return concordance, untied_x, untied_y, pairs


def test_worked_example_with_ties():
    measure, gap = np.array([1.0, 2, 2, 3, 4]), np.array([1.0, 3, 2, 2, 5])
    assert tau_a(measure, gap, flat(5)).point == pytest.approx(0.6, abs=1e-12)
    assert tau_b(measure, gap, flat(5)).point == pytest.approx(0.6666666667, abs=1e-10)


def test_worked_grid():
    gap = np.array([0.1, 0.14, 0.12, 0.2, 0.3, 0.33, 0.31, 0.26])
    measure = np.array([1, 2, 3, 2.5, 4, 6, 5, 7])
    assert tau_a(measure, gap, flat(8)).point == pytest.approx(0.6428571429, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy_and_with_naive_loops(seed):
    rng = np.random.default_rng(seed)
    runs, design = zoo()
    measure = rng.integers(0, 6, len(runs)).astype(float)
    gap = rng.integers(0, 8, len(runs)).astype(float)
    concordance, _, _, pairs = naive_sums(measure, gap)
    assert tau_b(measure, gap, design).point == pytest.approx(scipy.stats.kendalltau(measure, gap).statistic, abs=1e-12)
    assert tau_a(measure, gap, design).point == pytest.approx(concordance / pairs, abs=1e-12)


def test_large_magnitudes_and_tiny_differences_are_ordered_exactly():
    gap = np.arange(6.0)
    measure = 1e9 + np.arange(6) * 1e-6
    assert tau_a(measure, gap, flat(6)).point == 1.0
    assert tau_a(-measure, gap, flat(6)).point == -1.0


def test_a_constant_measure_has_tau_a_zero_and_tau_b_undefined():
    gap = np.arange(6.0)
    assert tau_a(np.full(6, 0.1), gap, flat(6)).point == 0.0
    assert np.isnan(tau_b(np.full(6, 0.1), gap, flat(6)).point)
    assert tau_b(np.full(6, 0.1), gap, flat(6)).n == 6


def test_runs_without_a_value_drop_out():
    rng = np.random.default_rng(0)
    runs, design = zoo()
    measure, gap = rng.standard_normal((2, len(runs)))
    measure[::5] = np.nan
    kept = np.isfinite(measure)
    found = tau_b(measure, gap, design)
    assert found.n == kept.sum() < len(runs)
    assert found.point == pytest.approx(scipy.stats.kendalltau(measure[kept], gap[kept]).statistic, abs=1e-12)


def test_no_runs_or_one_is_undefined():
    runs, design = zoo()
    measure, gap = np.full((2, len(runs)), np.nan)
    assert np.isnan(tau_a(measure, gap, design).point)
    measure[0] = gap[0] = 1.0
    for statistic in (tau_a, tau_b, within_noise_tau):
        assert np.isnan(statistic(measure, gap, design).point)
        assert np.isnan(statistic(measure, gap, design).low)


def test_within_noise_tau_is_the_mean_of_the_levels():
    rng = np.random.default_rng(1)
    runs, design = zoo(noises=(0.0, 0.25, 0.5))
    measure, gap = rng.standard_normal((2, len(runs)))
    taus = [
        scipy.stats.kendalltau(measure[rows], gap[rows]).statistic
        for rows in runs.groupby("label_noise").indices.values()
    ]
    assert within_noise_tau(measure, gap, design).point == pytest.approx(np.mean(taus), abs=1e-12)


def test_within_noise_tau_leaves_out_levels_of_constant_gap():
    rng = np.random.default_rng(1)
    runs, design = zoo(noises=(0.0, 1.0))
    measure, gap = rng.standard_normal((2, len(runs)))
    random_labels = runs["label_noise"].to_numpy() == 1.0
    gap[random_labels] = 0.9
    tau = scipy.stats.kendalltau(measure[~random_labels], gap[~random_labels]).statistic
    found = within_noise_tau(measure, gap, design)
    assert found.point == pytest.approx(tau, abs=1e-12)
    assert found.n == (~random_labels).sum()


def test_within_noise_tau_of_a_measure_that_is_constant_in_one_level_counts_it_as_zero():
    rng = np.random.default_rng(1)
    runs, design = zoo()
    measure, gap = rng.standard_normal((2, len(runs)))
    noisy = runs["label_noise"].to_numpy() == 0.5
    measure[noisy] = 3.0
    tau = scipy.stats.kendalltau(measure[~noisy], gap[~noisy]).statistic
    assert within_noise_tau(measure, gap, design).point == pytest.approx(tau / 2, abs=1e-12)


@pytest.mark.parametrize("kind", ["a", "b"])
@pytest.mark.parametrize("within", [False, True])
def test_the_influence_of_a_recipe_is_the_derivative_by_its_weight(kind, within):
    """Weights w_a w_b for a pair of recipes, w_a inside one: copies of a recipe do not meet."""
    rng = np.random.default_rng(3)
    runs, design = zoo((2, 4), seeds=3)
    measure, gap = rng.integers(0, 9, (2, len(runs))).astype(float)
    strata = noise_strata(gap, design) if within else [np.arange(len(runs))]
    estimate = tau_estimates(measure[:, None], gap, design, strata, kind)[0]

    def weighted(w):
        taus = []
        for rows in strata:
            same = design.recipe[rows][:, None] == design.recipe[rows]
            pair = np.where(
                same, w[design.recipe[rows]][:, None], np.outer(w[design.recipe[rows]], w[design.recipe[rows]])
            )
            np.fill_diagonal(pair, 0.0)
            x = np.sign(measure[rows][:, None] - measure[rows])
            y = np.sign(gap[rows][:, None] - gap[rows])
            norm = pair.sum() if kind == "a" else np.sqrt((pair * x**2).sum() * (pair * y**2).sum())
            taus.append((pair * x * y).sum() / norm)
        return np.mean(taus)

    ones = np.ones(design.recipes)
    assert weighted(ones) == pytest.approx(estimate.point, abs=1e-12)
    for recipe in range(design.recipes):
        step = np.zeros(design.recipes)
        step[recipe] = 1e-6
        slope = (weighted(ones + step) - weighted(ones - step)) / 2e-6
        assert estimate.influence[recipe] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize("missing", [False, True])
def test_replicates_agree_with_the_scores_of_each_replicate(missing):
    rng = np.random.default_rng(4)
    runs, design = zoo((3, 3))
    measures = rng.integers(0, 9, (len(runs), 4)).astype(float)
    gaps = rng.integers(0, 9, (len(runs), 7)).astype(float)
    if missing:
        measures[rng.random(measures.shape) < 0.1] = np.nan
        gaps[rng.random(gaps.shape) < 0.1] = np.nan
    sums = tau_replicates(measures, gaps)
    strata = [np.flatnonzero(design.level == level) for level in range(2)]
    within = within_noise_replicates(measures, gaps, strata)
    for i, j in itertools.product(range(4), range(7)):
        x, y = measures[:, i], gaps[:, j]
        assert sums.tau_a()[i, j] == pytest.approx(tau_a(x, y, design).point, abs=1e-12)
        assert sums.tau_b()[i, j] == pytest.approx(tau_b(x, y, design).point, abs=1e-12)
        assert within[i, j] == pytest.approx(within_noise_tau(x, y, design).point, abs=1e-12)


def test_comparisons_between_noises_only():
    rng = np.random.default_rng(6)
    runs, design = zoo((2, 3), (0.0, 0.3, 0.6))
    x, y = rng.integers(0, 9, (2, len(runs))).astype(float)
    apart = [(i, j) for i in range(len(runs)) for j in range(i) if design.level[i] != design.level[j]]
    x_signs, y_signs = (np.array([np.sign(v[i] - v[j]) for i, j in apart]) for v in (x, y))
    found = tau_estimates(x[:, None], y, design, [np.arange(len(runs))], "b", between_noises=True)[0]
    expected = (x_signs @ y_signs) / np.sqrt((x_signs**2).sum() * (y_signs**2).sum())
    assert found.point == pytest.approx(expected, abs=1e-12)
    share = tau_estimates(x[:, None], y, design, [np.arange(len(runs))], "a", between_noises=True)[0]
    assert share.point == pytest.approx(np.mean(x_signs * y_signs), abs=1e-12)


def test_blocks_of_pairs_change_nothing(monkeypatch):
    rng = np.random.default_rng(5)
    runs, design = zoo((3, 3))
    measure, gap = rng.integers(0, 9, (2, len(runs))).astype(float)
    whole = tau_b(measure, gap, design), tau_replicates(measure[:, None], gap[:, None]).tau_b()
    monkeypatch.setattr("gapbench.evaluate.statistics.pairs.BLOCK", 50)
    monkeypatch.setattr("gapbench.evaluate.statistics.recipe_pairs.BLOCK", 50)
    assert (tau_b(measure, gap, design), tau_replicates(measure[:, None], gap[:, None]).tau_b()) == whole


def test_equal_runs_are_refused_by_name():
    runs = pd.DataFrame({"width": [1, 1, 2], "seed": [0, 0, 0]}, index=["a1", "b2", "c3"])
    with pytest.raises(InputError, match=r"runs a1, b2 are equal in every axis \(width\)"):
        Design.of(runs, ["width"])
    with pytest.raises(InputError, match=r"unknown axis 'widht'.*width"):
        Design.of(runs, ["widht"])


def test_levels_of_few_recipes_are_left_out_where_others_have_more():
    rng = np.random.default_rng(0)
    rows = [(recipe, noise) for recipe in range(12) for noise in ((0.0, 0.5, 1.0) if recipe < 5 else (0.0, 1.0))]
    design = Design.of(pd.DataFrame(rows, columns=["width", "label_noise"]), ["width"])
    gap = rng.standard_normal(len(design))
    assert [set(design.level[runs]) for runs in noise_strata(gap, design)] == [{0}, {2}]
    assert [set(design.level[runs]) for runs in varying_levels(gap, design)] == [{0}, {1}, {2}]
    few = design.take(design.recipe < 5)
    assert len(noise_strata(gap[: len(few)], few)) == 3


def test_the_interval_of_unequal_strata_covers():
    """Two label noises of 30 recipes and four of 3: with a stratum for each it covers .7; 0.95 less three errors."""
    rows = [(recipe, noise) for recipe in range(30) for noise in (range(6) if recipe < 3 else (0, 5))]
    design = Design.of(pd.DataFrame(rows, columns=["width", "label_noise"]), ["width"])
    rng = np.random.default_rng(0)
    share = {}
    for strata in (noise_strata, varying_levels):
        found = []
        for _ in range(200):
            effect = rng.standard_normal(design.recipes)
            gap, measure = (effect[design.recipe] + 0.7 * rng.standard_normal(len(design)) for _ in range(2))
            found.append(tau_estimates(measure[:, None], gap, design, strata(gap, design), "b")[0].interval())
        truth = np.mean([one.point for one in found])
        share[strata] = np.mean([one.low <= truth <= one.high for one in found])
    assert share[noise_strata] >= 0.9
    assert share[varying_levels] < 0.85
