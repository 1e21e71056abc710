"""The noise ceiling predicts what the true gap scores."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.datasets.errors import InputError
from gapbench.evaluate.statistics.ceiling import between_seeds, ceiling, noise_ceiling, reliability, spearman_ceiling
from gapbench.evaluate.statistics.design import Design


def zoo(recipes=60, noises=(0.0, 0.5)):
    runs = pd.DataFrame([(r, p) for r in range(recipes) for p in noises], columns=["width", "label_noise"])
    return runs, Design.of(runs, ["width"])


def errors(runs, rate, size, rng, classes=10):
    """Expected errors under the training law; the examples differ in difficulty, the same for all runs."""
    difficulty = rng.standard_normal(size)
    wrong = rng.random((len(runs), size)) < 1 / (1 + np.exp(-(np.log(rate / (1 - rate))[:, None] + difficulty)))
    noise = runs["label_noise"].to_numpy()[:, None]
    return np.where(wrong, 1 - noise / classes, noise * (classes - 1) / classes).astype(np.float32)


@pytest.mark.parametrize(("size", "spread"), [(100, 0.15), (400, 0.15), (400, 0.5)])
def test_the_ceiling_is_what_the_true_gap_scores(size, spread):
    """The mean split-half tau of many zoos gives their mean tau between the true and the observed gap.

    The mean is taken first: one zoo's ceiling is biased low where the gaps hardly differ, for √ is concave.
    """
    rng = np.random.default_rng(0)
    runs, design = zoo(40)
    achieved, halves = [], []
    noisy = runs["label_noise"].to_numpy() == 0.5
    for _ in range(12):
        rate = 1 / (1 + np.exp(2 - spread * rng.standard_normal(len(runs))))
        sample = errors(runs, rate, size, rng)
        found = noise_ceiling(sample, np.zeros(len(runs)), design, rng, splits=6)
        for name, rows in (("label_noise=0", ~noisy), ("label_noise=0.5", noisy)):
            halves.append(found[name].split_half.point)
            achieved.append(scipy.stats.kendalltau(rate[rows], sample[rows].mean(axis=1)).statistic)
    assert ceiling(float(np.mean(halves))) == pytest.approx(np.mean(achieved), abs=0.05)
    assert np.mean(halves) < np.mean(achieved) - 0.08  # the uncorrected one would not do


def test_the_overall_ceiling_counts_pairs_between_strata_that_are_far_apart():
    rng = np.random.default_rng(0)
    runs, design = zoo(40)
    noise = runs["label_noise"].to_numpy()
    predicted, achieved, naive = [], [], []
    for _ in range(12):
        rate = 1 / (1 + np.exp(2 - 0.15 * rng.standard_normal(len(runs))))
        sample = errors(runs, rate, 400, rng)
        found = noise_ceiling(sample, np.zeros(len(runs)), design, rng, splits=6)["overall"]
        predicted.append(found.ceiling.point)
        naive.append(ceiling(found.split_half.point))
        truth = rate * (1 - noise) + noise * 0.9
        achieved.append(scipy.stats.kendalltau(truth, sample.mean(axis=1)).statistic)
        assert found.ceiling.low < found.ceiling.point < found.ceiling.high
        assert ceiling(found.split_half.point) > found.split_half.point
    assert np.mean(predicted) == pytest.approx(np.mean(achieved), abs=0.03)
    assert np.mean(naive) > np.mean(achieved) + 0.03


def test_split_half_agrees_with_scipy():
    rng = np.random.default_rng(0)
    runs, design = zoo(12, (0.0,))
    sample = errors(runs, rng.uniform(0.1, 0.4, 12), 50, rng)
    train = rng.uniform(0, 0.05, 12)
    found = noise_ceiling(sample, train, design, np.random.default_rng(5), splits=4)
    again, taus = np.random.default_rng(5), []
    for _ in range(4):
        order = again.permutation(50)
        halves = [sample[:, part].mean(axis=1, dtype=float).round(9) - train for part in (order[:25], order[25:])]
        taus.append(scipy.stats.kendalltau(*halves).statistic)
    assert found["overall"].split_half.point == pytest.approx(np.mean(taus), abs=1e-9)
    assert set(found) == {"overall", "label_noise=0", "within_noise"}


def test_strata_are_averaged_and_constant_ones_left_out():
    rng = np.random.default_rng(0)
    runs, design = zoo(30, (0.0, 0.5, 1.0))
    found = noise_ceiling(errors(runs, rng.uniform(0.1, 0.3, len(runs)), 200, rng), np.zeros(len(runs)), design, rng)
    assert set(found) == {"overall", "label_noise=0", "label_noise=0.5", "within_noise"}
    mean = (found["label_noise=0"].ceiling.point + found["label_noise=0.5"].ceiling.point) / 2
    assert found["within_noise"].ceiling.point == pytest.approx(mean)
    assert found["within_noise"].ceiling.low < mean < found["within_noise"].ceiling.high
    assert found["within_noise"].split_half.n == 60


def test_ends():
    rng = np.random.default_rng(0)
    runs, design = zoo(30, (0.0,))
    gap = np.linspace(0.1, 0.4, 30)
    no_noise = np.repeat(gap[:, None], 40, axis=1).astype(np.float32)
    assert noise_ceiling(no_noise, np.zeros(30), design, rng)["overall"].ceiling.point == pytest.approx(1.0)
    same_network = noise_ceiling(errors(runs, np.full(30, 0.2), 400, rng), np.zeros(30), design, rng)["overall"]
    assert same_network.reliability.point < 0.4
    constant = noise_ceiling(np.ones((30, 8), np.float32), np.zeros(30), design, rng)
    assert math.isnan(constant["overall"].ceiling.point)
    assert set(constant) == {"overall"}
    assert ceiling(1.0) == pytest.approx(1.0)
    assert ceiling(-0.2) == reliability(-0.2) == 0.0
    assert reliability(1 / 3) == pytest.approx(2 / 3)  # sin(π/6) = ½


def test_shapes_are_checked():
    _, design = zoo(5, (0.0,))
    with pytest.raises(InputError, match="4 runs"):
        noise_ceiling(np.zeros((4, 9), np.float32), np.zeros(4), design, np.random.default_rng(0))
    with pytest.raises(InputError, match="3 test examples"):
        noise_ceiling(np.zeros((5, 3), np.float32), np.zeros(5), design, np.random.default_rng(0))


def test_between_seeds_agrees_with_scipy_and_is_no_more_than_one():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame([(r, p, s) for r in range(15) for p in (0.0, 0.5) for s in range(3)])
    runs.columns = ["width", "label_noise", "seed"]
    runs = runs.sample(frac=0.9, random_state=1).reset_index(drop=True)
    gap = rng.standard_normal(15)[runs["width"]] + 0.5 * rng.standard_normal(len(runs)) + 3 * runs["label_noise"]
    taus = []
    for _, level in runs.assign(gap=gap).groupby("label_noise"):
        ranked = level.assign(place=level.groupby("width")["seed"].rank())
        whole = runs.assign(place=runs.groupby("width")["seed"].rank(method="dense"))
        ranked["place"] = whole.loc[ranked.index, "place"]
        wide = ranked.pivot(index="width", columns="place", values="gap")
        for a, b in ((1, 2), (1, 3), (2, 3)):
            both = wide[[a, b]].dropna()
            taus.append(scipy.stats.kendalltau(both[a], both[b]).statistic)
    found = between_seeds(gap.to_numpy(), Design.of(runs, ["width"]))
    assert found.point == pytest.approx(np.mean(taus), abs=1e-12)
    assert found.low < found.point < found.high
    same = runs.assign(gap=runs["width"] + runs["label_noise"])["gap"].to_numpy()
    assert between_seeds(same, Design.of(runs, ["width"])).point == 1.0
    single = runs[runs["seed"] == 0]
    assert math.isnan(between_seeds(gap[runs["seed"] == 0].to_numpy(), Design.of(single, ["width"])).point)


def test_the_ceiling_of_spearman_is_that_of_gaussians():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(200000)
    observed = truth + 0.7 * rng.standard_normal(200000)
    reliable = 1 / (1 + 0.49)
    assert spearman_ceiling(reliable) == pytest.approx(scipy.stats.spearmanr(truth, observed).statistic, abs=5e-3)
    assert spearman_ceiling(1.0) == pytest.approx(1.0)
    assert spearman_ceiling(0.0) == 0.0
