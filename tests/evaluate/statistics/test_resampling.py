"""Uncertainty: coverage of the intervals, the paired bootstrap, and the permutation null."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import PSI, CellPairs, granulated_estimates
from gapbench.evaluate.statistics.interval import score_interval
from gapbench.evaluate.statistics.randomisation import auc_estimates
from gapbench.evaluate.statistics.rank import (
    noise_strata,
    tau_estimates,
    tau_replicates,
    within_noise_replicates,
)
from gapbench.evaluate.statistics.resampling import Estimate, null_band, paired_resamples, permuted, resampled_counts


def grid(axes=5, noises=(0.0, 0.5), seeds=2):
    names = [f"axis{i}" for i in range(axes)]
    rows = itertools.product(*[range(2)] * axes, noises, range(seeds))
    return Design.of(pd.DataFrame(rows, columns=[*names, "label_noise", "seed"]), names)


def simulated(design, rho, rng):
    """A recipe's effect on gap and measure, correlated by rho, and seed noise."""
    effect, slope = rng.standard_normal((2, design.recipes))
    other = rho * effect + np.sqrt(1 - rho**2) * rng.standard_normal(design.recipes)
    noise = 0.3 * rng.standard_normal((2, len(design)))
    gap = effect[design.recipe] + 2.0 * design.level + noise[0]
    return gap, other[design.recipe] + design.level * (0.5 + 0.7 * slope[design.recipe]) + noise[1]


def covered(design, rho, estimate, zoos=120):
    rng = np.random.default_rng(0)
    intervals = [estimate(*simulated(design, rho, rng)).interval() for _ in range(zoos)]
    truth = np.mean([interval.point for interval in intervals])
    return np.mean([interval.low <= truth <= interval.high for interval in intervals])


@pytest.mark.parametrize("rho", [0.0, 0.9])
@pytest.mark.parametrize("score", ["tau_b", "within_noise_tau", "granulated_tau", "randomisation_auc"])
def test_nominal_95_percent_intervals_cover(score, rho):
    """benchmarks/coverage.py is the larger one; 0.92 at least, less three binomial standard errors of 120 zoos."""
    design = grid()
    estimate = {
        "tau_b": lambda g, m: tau_estimates(m[:, None], g, design, [np.arange(len(g))], "b")[0],
        "within_noise_tau": lambda g, m: tau_estimates(m[:, None], g, design, noise_strata(g, design), "b")[0],
        "granulated_tau": lambda g, m: granulated_estimates(m[:, None], g, CellPairs.of(design, g))[0][PSI],
        "randomisation_auc": lambda g, m: auc_estimates(m[:, None], design)[0],
    }[score]
    assert covered(design, rho, estimate) >= 0.87


def test_taking_runs_for_recipes_undercovers():
    """The positive control of the coverage test: seeds and twins are not independent."""
    design = grid(seeds=3)
    alone = replace(design, recipe=np.arange(len(design)), recipes=len(design))
    wrong = covered(
        design, 0.0, lambda g, m: tau_estimates(m[:, None], g, alone, noise_strata(g, design), "b")[0], zoos=100
    )
    assert wrong < 0.8


def test_granulated_without_the_dyadic_correction_overstates_the_variance():
    design, rng = grid(), np.random.default_rng(0)
    found = []
    for _ in range(120):
        gap, measure = simulated(design, 0.6, rng)
        estimate = granulated_estimates(measure[:, None], gap, CellPairs.of(design, gap))[0][PSI]
        found.append((estimate.point, estimate.variance, replace(estimate, sparse=False).variance))
    points, corrected, uncorrected = np.array(found).T
    assert 0.8 < corrected.mean() / points.var() < 1.35
    assert uncorrected.mean() / points.var() > 1.4


def test_score_interval_is_wilsons_on_independent_comparisons():
    p, n = 0.8, 4000
    low, high = score_interval(2 * p - 1, 4 * p * (1 - p) / n, clusters=n, comparisons=n)
    expected = scipy.stats.binomtest(int(p * n), n).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((2 * expected.low - 1, 2 * expected.high - 1), abs=1e-4)


def test_score_interval_at_the_ends():
    low, high = score_interval(1.0, 0.0, clusters=32, comparisons=80)
    assert high == 1.0
    assert 0.85 < low < 0.95
    assert score_interval(-1.0, 0.0, clusters=32, comparisons=80) == pytest.approx((-high, -low))
    assert 0.0 < score_interval(1.0, 0.0, clusters=32, comparisons=32, lowest=0.0)[0] < 1.0
    assert all(map(math.isnan, score_interval(0.5, 0.1, clusters=2, comparisons=1)))
    assert all(map(math.isnan, score_interval(math.nan, math.nan, clusters=9, comparisons=9)))


def test_resamples_are_paired_and_have_the_variance_of_the_interval():
    design, rng = grid(), np.random.default_rng(0)
    gap, measure = simulated(design, 0.6, rng)
    measures = np.stack(
        [measure, measure + 0.01 * rng.standard_normal(len(gap)), rng.standard_normal(len(gap))], axis=1
    )
    drawn = resampled_counts(design.recipes, 20000, rng)
    estimates = tau_estimates(measures, gap, design, noise_strata(gap, design), "b", drawn=drawn)
    draws = paired_resamples(estimates)
    variances = [estimate.variance for estimate in estimates]
    assert draws.mean(axis=0) == pytest.approx([estimate.point for estimate in estimates], abs=0.01)
    assert draws.var(axis=0) == pytest.approx(variances, rel=0.08)
    assert (draws[:, 0] - draws[:, 1]).var() < 0.05 * variances[0]  # nearly the same measure
    assert (draws[:, 0] - draws[:, 2]).var() > 0.5 * variances[0]


def test_a_score_that_no_draw_defines_is_nan_without_a_warning():
    defined = Estimate(0.5, np.linspace(-0.1, 0.1, 5), 0.0, 0.0, 5, 10, 8, resamples=np.linspace(0.3, 0.7, 5))
    nowhere = replace(defined, resamples=np.full(5, math.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = paired_resamples([defined, nowhere])
    assert np.isfinite(draws[:, 0]).all()
    assert np.isnan(draws[:, 1]).all()


def test_permuted_values_move_in_whole_recipes():
    design = grid(2, seeds=3)
    rng = np.random.default_rng(0)
    values = np.arange(len(design), dtype=float)
    for column in permuted(values, design, 50, rng).T:
        source = column.astype(int)
        assert sorted(source) == list(range(len(design)))
        assert (design.level[source] == design.level).all()
        assert (design.seed[source] == design.seed).all()
        assert len({(a, b) for a, b in zip(design.recipe, design.recipe[source])}) == design.recipes
    moved = permuted(values, design, 50, rng, noises=True)
    assert (design.level[moved.astype(int)] != design.level[:, None]).any()
    for column in moved.T:
        source = column.astype(int)
        blocks = {
            (r, level, r2, level2)
            for r, level, r2, level2 in zip(
                design.recipe, design.level, design.recipe[source], design.level[source], strict=True
            )
        }
        assert len(blocks) == 8  # configurations move whole
        assert len({(r, r2) for r, _, r2, _ in blocks}) == design.recipes


def test_permutations_are_uniform():
    design = Design.of(pd.DataFrame({"width": [1, 2, 3]}), ["width"])
    moved = permuted(np.arange(3.0), design, 6000, np.random.default_rng(0))
    _, counts = np.unique(moved, axis=1, return_counts=True)
    assert len(counts) == 6
    assert scipy.stats.chisquare(counts).pvalue > 0.001


def test_a_run_that_only_one_recipe_has_stays_and_the_others_move():
    runs = pd.DataFrame({"width": [1, 1, 2], "label_noise": [0.0, 0.5, 0.0]})
    moved = permuted(np.array([1.0, 2.0, 3.0]), Design.of(runs, ["width"]), 40, np.random.default_rng(0))
    assert set(map(str, moved.T)) == {"[1. 2. 3.]", "[3. 2. 1.]"}


def holed(rng, recipes=24):
    """A zoo like one whose networks fit some label noises only: three of them on all six, the others on two."""
    rows = [(r, noise, seed) for r in range(recipes) for noise in (range(6) if r < 3 else (0, 5)) for seed in (0, 1)]
    kept = rng.random(len(rows)) < 0.85
    return Design.of(pd.DataFrame(rows, columns=["width", "label_noise", "seed"])[kept], ["width"])


@pytest.mark.parametrize("noises", [False, True])
def test_every_permutation_of_a_zoo_with_holes_is_a_rearrangement(noises):
    rng = np.random.default_rng(0)
    design = holed(rng)
    moved = permuted(np.arange(len(design), dtype=float), design, 200, rng, noises=noises).astype(int)
    assert (np.sort(moved, axis=0) == np.arange(len(design))[:, None]).all()
    if not noises:
        assert (design.level[moved] == design.level[:, None]).all()
        assert (design.replicate[moved] == design.replicate[:, None]).all()
        # Every run receives every value of its level and replicate about equally often.
        for level, replicate in itertools.product(range(6), range(2)):
            cell = np.flatnonzero((design.level == level) & (design.replicate == replicate))
            counts = np.array([[(moved[run] == source).sum() for source in cell] for run in cell])
            assert scipy.stats.chisquare(counts, counts.mean(axis=1, keepdims=True), axis=1).pvalue.min() > 1e-4


@pytest.mark.parametrize("of_recipe", [False, True])
def test_null_bands_hold_on_a_zoo_with_holes(of_recipe):
    """Of measures that know nothing, run by run or recipe by recipe, 5 % lie outside; 2 to 10 % of 400 here."""
    rng = np.random.default_rng(1)
    design = holed(rng)
    gap_part = rng.standard_normal(design.recipes)
    gap = gap_part[design.recipe] + design.level + 0.3 * rng.standard_normal(len(design))
    measures = rng.standard_normal((len(design), 400))
    if of_recipe:
        measures = rng.standard_normal((design.recipes, 400))[design.recipe] + 1e-3 * measures
    strata = noise_strata(gap, design)
    within = within_noise_replicates(measures, permuted(gap, design, 400, rng), strata)
    points = [e.point for e in tau_estimates(measures, gap, design, strata, "b")]
    outside = np.mean([null_band(point, null).p <= 0.05 for point, null in zip(points, within, strict=True)])
    assert 0.02 <= outside <= 0.1
    overall = tau_replicates(measures, permuted(gap, design, 400, rng, noises=True)).tau_b()
    points = [e.point for e in tau_estimates(measures, gap, design, [np.arange(len(gap))], "b")]
    outside = np.mean([null_band(point, null).p <= 0.05 for point, null in zip(points, overall, strict=True)])
    assert 0.01 <= outside <= 0.1


def test_null_band_adds_one():
    scores = np.array([-0.3, -0.1, 0.0, 0.2, np.nan])
    band = null_band(0.2, scores)
    assert band.p == (1 + 2) / (1 + 4)
    assert null_band(0.9, scores).p == 1 / 5
    assert null_band(0.5, scores + 0.5, centre=0.5).p == 1.0
    assert (band.low, band.high) == pytest.approx(tuple(np.quantile(scores[:4], [0.025, 0.975])))
    assert math.isnan(null_band(math.nan, scores).p)
