"""Sign errors against naive loops over environments and pairs of seeds, and worked Hoeffding weights."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.sign_error import (
    effective_sample_size,
    environment_errors,
    hoeffding_weight,
    sign_errors,
    smallest_counted_difference,
)


def zoo(seed=0, seeds=5, keep=0.9):
    rng = np.random.default_rng(seed)
    rows = itertools.product(range(3), range(2), (0.0, 0.5), range(seeds))
    runs = pd.DataFrame(rows, columns=["A", "B", "label_noise", "seed"])
    runs = runs[rng.random(len(runs)) < keep].reset_index(drop=True)
    effect = rng.uniform(0, 0.3, (3, 2, 2))
    gap = effect[runs["A"], runs["B"], (2 * runs["label_noise"]).astype(int)] + rng.normal(0, 0.02, len(runs))
    measure = (gap + rng.normal(0, 0.1, len(runs))).round(2)
    return runs, Design.of(runs, ["A", "B"]), measure, gap


def naive(runs, measure, gap, test_size, least):
    frame = runs.assign(m=measure, g=gap)
    cells = dict(iter(frame.groupby(["A", "B", "label_noise"])))
    errors = {"A": [], "B": []}
    for one, other in itertools.permutations(cells, 2):
        differing = [name for name, a, b in zip(("A", "B", "label_noise"), one, other) if a != b]
        if len(differing) != 1 or differing == ["label_noise"]:
            continue
        wrong, weights = [], []
        for (_, a), (_, b) in itertools.product(cells[one].iterrows(), cells[other].iterrows()):
            weight = max(1 - 2 * np.exp(-test_size * (a.g - b.g) ** 2 / 2), 0) ** 2
            weights.append(max(weight - 0.5, 0))
            wrong.append((1 - np.sign(a.m - b.m) * np.sign(a.g - b.g)) / 2)
        weights = np.array(weights)
        if weights.any() and weights.sum() ** 2 / (weights**2).sum() >= least:
            errors[differing[0]].append(np.average(wrong, weights=weights))
    return errors


def test_worked_weights():
    differences = np.array([0.01, 0.02, 0.03])
    assert hoeffding_weight(differences, 10000) == pytest.approx([0, 0.5319214226, 0.9560576531], rel=1e-9)
    assert smallest_counted_difference(10000) == pytest.approx(0.01960150177, rel=1e-9)
    assert smallest_counted_difference(2000) == pytest.approx(0.04383029041, rel=1e-9)
    assert effective_sample_size(np.array([0.3, 0.3, 0.3, 0.1])) == pytest.approx(3.571428571, rel=1e-9)
    assert hoeffding_weight(differences, 5000)[1] != pytest.approx(0.5319214226, rel=0.1)


def test_worked_ties():
    """The sign error of the worked table with ties: (1 − tau_a) / 2."""
    runs = pd.DataFrame({"A": range(5)})
    measure, gap = np.array([1.0, 2, 2, 3, 4]), np.array([1.0, 3, 2, 2, 5])
    found = sign_errors(measure, gap, Design.of(runs, ["A"]), 10**6, least_size=1)
    # The pair of equal gaps has no weight: of the other nine, 7 are concordant, 1 discordant and 1 is tied.
    assert found.mean.point == pytest.approx((1 + 0.5) / 9)
    assert found.environments == 18
    assert found.candidates == 20


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("least", [12.0, 3.0])
def test_agrees_with_naive_loops(seed, least):
    runs, design, measure, gap = zoo(seed)
    found = sign_errors(measure, gap, design, 2000, least_size=least)
    expected = naive(runs, measure, gap, 2000, least)
    everything = [*expected["A"], *expected["B"]]
    assert 0 < found.environments == len(everything) < found.candidates
    assert found.mean.point == pytest.approx(np.mean(everything), abs=1e-12)
    assert found.percentile_90.point == pytest.approx(np.quantile(everything, 0.9), abs=1e-12)
    assert found.maximum.point == pytest.approx(max(everything), abs=1e-12)
    for axis in "AB":
        assert np.repeat(np.sort(found.by_axis[axis]), 2) == pytest.approx(np.sort(expected[axis]), abs=1e-12)


def test_the_number_of_test_examples_decides_what_counts():
    _, design, measure, gap = zoo()
    few, many = (sign_errors(measure, gap, design, size) for size in (300, 10000))
    assert few.environments < many.environments
    mixed = sign_errors(measure, gap, design, np.where(np.arange(len(gap)) % 2, 300.0, 10000.0))
    assert few.environments <= mixed.environments <= many.environments
    assert smallest_counted_difference(300) > smallest_counted_difference(10000)


def test_a_perfect_measure_errs_nowhere_and_its_negation_everywhere():
    _, design, _, gap = zoo()
    assert sign_errors(gap, gap, design, 2000).maximum.point == 0.0
    assert sign_errors(-gap, gap, design, 2000).mean.point == 1.0
    assert sign_errors(np.ones(len(gap)), gap, design, 2000).mean.point == 0.5


def test_three_seeds_leave_no_environment():
    _, design, measure, gap = zoo(seeds=3, keep=1.0)
    found = sign_errors(measure, gap, design, 10**6)
    assert np.isnan([found.mean.point, found.percentile_90.point, found.maximum.point]).all()
    assert found.environments == found.mean.n == 0
    assert found.largest_size == pytest.approx(9.0)
    assert sign_errors(measure, gap, design, 10**6, least_size=9).environments > 0


def test_bounds_stand_around_the_points():
    _, design, measure, gap = zoo()
    found = sign_errors(measure, gap, design, 2000)
    assert 0.0 <= found.mean.low < found.mean.point < found.mean.high <= 1.0
    assert found.percentile_90.low <= found.percentile_90.point <= found.percentile_90.high
    assert np.isnan(found.maximum.low)


@pytest.mark.parametrize("seed", range(3))
def test_environments_are_those_that_are_summed_up(seed):
    runs, design, measure, gap = zoo(seed)
    missing = np.where(np.arange(len(gap)) % 7 == 0, np.nan, measure)
    found = environment_errors(np.stack([measure, -measure, missing], axis=1), gap, design, 2000)
    for column, values in enumerate((measure, -measure, missing)):
        errors = found.errors[:, column]
        expected = sign_errors(values, gap, design, 2000)
        assert 2 * (~np.isnan(errors)).sum() == expected.environments > 0
        assert np.nanmean(errors) == pytest.approx(expected.mean.point, abs=1e-12)
        assert np.nanmax(errors) == pytest.approx(expected.maximum.point, abs=1e-12)
        assert found.sizes[:, column].max() == pytest.approx(expected.largest_size)
    for row, (first, second) in enumerate(zip(found.first, found.second)):
        one, other = runs.iloc[first], runs.iloc[second]
        axis = ("A", "B")[found.axis[row]]
        assert one[axis] != other[axis]
        assert one.drop([axis, "seed"]).equals(other.drop([axis, "seed"]))


def pooled_by_loops(runs, measure, gap, test_size, least):
    """Every pair of runs that differ in one axis, gathered by the axis, its two values and the label noise."""
    sums = {}
    for (i, a), (j, b) in itertools.combinations(runs.iterrows(), 2):
        if a["label_noise"] != b["label_noise"] or (a["A"] != b["A"]) == (a["B"] != b["B"]):
            continue
        axis = "A" if a["A"] != b["A"] else "B"
        weight = max(max(1 - 2 * np.exp(-test_size * (gap[i] - gap[j]) ** 2 / 2), 0) ** 2 - 0.5, 0)
        wrong = (1 - np.sign(measure[i] - measure[j]) * np.sign(gap[i] - gap[j])) / 2
        key = (axis, *sorted((a[axis], b[axis])), a["label_noise"])
        sums.setdefault(key, []).append((weight, wrong))
    out = {}
    for key, pairs in sums.items():
        weights, wrong = np.array(pairs).T
        if effective_sample_size(weights) >= least:
            out[key] = np.average(wrong, weights=weights)
    return out


def test_pooled_environments_agree_with_loops():
    runs, design, measure, gap = zoo(1, seeds=2)
    found = environment_errors(measure[:, None], gap, design, 2000, pooled=True, least_size=3)
    seen = {}
    for row in np.flatnonzero(~np.isnan(found.errors[:, 0])):
        one, other = runs.iloc[found.first[row]], runs.iloc[found.second[row]]
        axis = ("A", "B")[found.axis[row]]
        seen[axis, *sorted((one[axis], other[axis])), one["label_noise"]] = found.errors[row, 0]
    assert seen == pytest.approx(pooled_by_loops(runs, measure, gap, 2000, 3))
    assert len(seen) >= 5
    assert seen != pytest.approx(pooled_by_loops(runs, -measure, gap, 2000, 3))


def test_no_axis_has_no_environment():
    runs = pd.DataFrame({"label_noise": [0.0, 0.5], "seed": [0, 0]})
    found = environment_errors(np.ones((2, 1)), np.array([0.1, 0.2]), Design.of(runs, []), 2000, pooled=True)
    assert found.errors.shape == (0, 1)
