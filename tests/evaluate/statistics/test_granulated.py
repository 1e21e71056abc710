"""Granulated tau against a worked grid and naive loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import (
    PSI,
    CellPairs,
    averaged,
    granulated_estimates,
    granulated_replicates,
    granulated_tau,
)

AXES = ["A", "B", "C"]
WORKED_GAP = np.array([0.1, 0.14, 0.12, 0.2, 0.3, 0.33, 0.31, 0.26])
WORKED_MEASURE = np.array([1, 2, 3, 2.5, 4, 6, 5, 7])


def grid(values=(2, 2, 2), noises=(0.0,), seeds=1):
    rows = itertools.product(*(range(k) for k in values), noises, range(seeds))
    return pd.DataFrame(rows, columns=[*AXES[: len(values)], "label_noise", "seed"])


def incomplete(seed=0):
    rng = np.random.default_rng(seed)
    runs = grid((3, 2, 4), (0.0, 0.5, 1.0), 3)
    runs = runs[rng.random(len(runs)) < 0.7].reset_index(drop=True)
    measure = rng.integers(0, 6, len(runs)) / 7
    gap = rng.integers(0, 6, len(runs)) / 7
    gap[runs["label_noise"] == 1.0] = 0.9
    return runs, measure, gap


def naive(runs, measure, gap, seeds="averaged"):
    frame = runs.assign(measure=measure, gap=gap).dropna()
    fixed = ["label_noise"] if seeds == "averaged" else ["label_noise", "seed"]
    frame = frame.groupby([*AXES, *fixed], as_index=False)[["measure", "gap"]].mean().round(9)
    psi, counts = {}, {}
    for axis in AXES:
        cells, single, constant = [], 0, 0
        for _, cell in frame.groupby([a for a in AXES if a != axis] + fixed):
            if len(cell) == 1:
                single += 1
            elif cell["gap"].nunique() == 1:
                constant += 1
            else:
                pairs = itertools.combinations(cell[["measure", "gap"]].to_numpy(), 2)
                cells.append(np.mean([np.sign(a[0] - b[0]) * np.sign(a[1] - b[1]) for a, b in pairs]))
        psi[axis] = np.mean(cells)
        counts[axis] = (len(cells), single, constant)
    return psi, counts


def test_worked_grid():
    found = granulated_tau(WORKED_MEASURE, WORKED_GAP, Design.of(grid(), AXES))
    assert {axis: psi.point for axis, psi in found.by_axis.items()} == {"A": 1.0, "B": 0.5, "C": 0.0}
    assert found.mean.point == 0.5
    assert found.mean.n == 8


@pytest.mark.parametrize("seeds", ["averaged", "fixed"])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_naive_loops_on_an_incomplete_grid(seed, seeds):
    runs, measure, gap = incomplete(seed)
    measure[::11] = np.nan
    found = granulated_tau(measure, gap, Design.of(runs, AXES), seeds=seeds)
    psi, counts = naive(runs, measure, gap, seeds)
    for axis in AXES:
        assert found.by_axis[axis].point == pytest.approx(psi[axis], abs=1e-12)
        cells = found.cells[axis]
        assert (cells.counted, cells.single, cells.constant_gap) == counts[axis]
        assert cells.constant_gap > 0
    assert found.mean.point == pytest.approx(np.mean(list(psi.values())), abs=1e-12)


def test_cells_of_a_constant_measure_count_zero():
    runs = grid()
    measure = WORKED_MEASURE.copy()
    measure[:2] = 0.1  # the cell A=0, B=0 of axis C, which was concordant
    found = granulated_tau(measure, WORKED_GAP, Design.of(runs, AXES))
    assert found.by_axis["C"].point == pytest.approx((0 - 1 + 1 - 1) / 4)
    assert granulated_tau(np.ones(8), WORKED_GAP, Design.of(runs, AXES)).mean.point == 0.0


def test_the_label_noise_is_held_fixed():
    runs = grid(noises=(0.0, 0.5))
    noise = runs["label_noise"].to_numpy()
    gap = np.repeat(WORKED_GAP, 2) + noise
    assert granulated_tau(noise, gap, Design.of(runs, AXES)).mean.point == 0.0
    assert granulated_tau(gap, gap, Design.of(runs, AXES)).mean.point == 1.0


def test_an_axis_without_cells_is_left_out_of_the_mean():
    runs = grid((2, 2, 2)).iloc[[0, 2, 5, 7]].reset_index(drop=True)  # C is decided by A
    gap = np.array([0.1, 0.2, 0.3, 0.4])
    found = granulated_tau(gap, gap, Design.of(runs, AXES))
    assert math.isnan(found.by_axis["A"].point)
    assert math.isnan(found.by_axis["C"].point)
    assert found.mean.point == found.by_axis["B"].point == 1.0
    assert found.cells["A"].single == 4
    no_axes = granulated_tau(gap[:2], gap[:2], Design.of(pd.DataFrame({"seed": [0, 1]}), []))
    assert math.isnan(no_axes.mean.point)


def test_nothing_covered_is_undefined():
    found = granulated_tau(np.full(8, np.nan), WORKED_GAP, Design.of(grid(), AXES))
    assert math.isnan(found.mean.point)
    assert found.mean.n == 0


def test_averages_of_equal_values_are_equal_whatever_their_number():
    values = np.array([[0.1], [0.1], [0.1], [0.1], [0.1]])
    means = averaged(values, np.arange(5), np.array([0, 3]))
    assert means[0, 0] == means[1, 0] == 0.1
    assert np.mean([0.1] * 3) != np.mean([0.1] * 2)  # what would go wrong


@pytest.mark.parametrize("seed", range(2))
def test_the_influence_of_a_recipe_is_the_derivative_by_its_weight(seed):
    runs, measure, gap = incomplete(seed)
    design = Design.of(runs, AXES)
    cells = CellPairs.of(design, gap)
    estimate = granulated_estimates(measure[:, None], gap, cells)[0][PSI]
    frame = runs.assign(measure=measure, gap=gap, recipe=design.recipe)
    frame = frame.groupby([*AXES, "label_noise", "recipe"], as_index=False).mean().round(9)

    def weighted(w):
        psis = []
        for axis in AXES:
            total = norm = 0.0
            for _, cell in frame.groupby([a for a in AXES if a != axis] + ["label_noise"]):
                if cell["gap"].nunique() > 1:
                    rows = cell[["measure", "gap", "recipe"]].to_numpy()
                    share = 2 / (len(rows) * (len(rows) - 1))
                    for a, b in itertools.combinations(rows, 2):
                        weight = w[int(a[2])] * w[int(b[2])] * share
                        total += weight * np.sign(a[0] - b[0]) * np.sign(a[1] - b[1])
                        norm += weight
            psis.append(total / norm)
        return np.mean(psis)

    ones = np.ones(design.recipes)
    assert weighted(ones) == pytest.approx(estimate.point, abs=1e-12)
    for recipe in range(0, design.recipes, 8):
        step = np.zeros(design.recipes)
        step[recipe] = 1e-5
        slope = (weighted(ones + step) - weighted(ones - step)) / 2e-5
        assert estimate.influence[recipe] == pytest.approx(slope, abs=1e-8)


def test_the_variance_is_the_dyadic_robust_one():
    """Two pairs of recipes that share one covary; a naive double loop over pairs of pairs."""
    rng = np.random.default_rng(0)
    runs = grid((2, 2, 2))
    measure, gap = rng.standard_normal((2, 8))
    estimate = granulated_estimates(measure[:, None], gap, CellPairs.of(Design.of(runs, AXES), gap))[0][PSI]
    edges = [(a, b) for a, b in itertools.combinations(range(8), 2) if bin(a ^ b).count("1") == 1]
    sign = {e: np.sign(measure[e[0]] - measure[e[1]]) * np.sign(gap[e[0]] - gap[e[1]]) for e in edges}
    axis = {e: (e[0] ^ e[1]).bit_length() for e in edges}
    deviation = {e: (sign[e] - np.mean([sign[f] for f in edges if axis[f] == axis[e]])) / len(edges) for e in edges}
    sharing = sum(deviation[e] * deviation[f] for e in edges for f in edges if set(e) & set(f))
    own = sum(d**2 for d in deviation.values())
    assert estimate.pair_squares == pytest.approx(own)
    assert estimate.influence @ estimate.influence == pytest.approx(sharing + own)
    assert estimate.variance == pytest.approx(max(8 * 7 / 36 * (sharing + own) - own, own))


@pytest.mark.parametrize("block", [1 << 22, 100])
def test_replicates_agree_with_the_score_of_each_replicate(block, monkeypatch):
    monkeypatch.setattr("gapbench.evaluate.statistics.granulated.BLOCK", block)
    runs, _, gap = incomplete()
    rng = np.random.default_rng(1)
    design = Design.of(runs, AXES)
    measures = rng.standard_normal((len(runs), 3))
    gaps = np.stack([gap, *(rng.integers(0, 5, (4, len(runs))) / 7)], axis=1)
    found = granulated_replicates(measures, gaps, CellPairs.of(design, gap))
    for i, j in itertools.product(range(3), range(5)):
        one = granulated_tau(measures[:, i], gaps[:, j], design)
        assert found[i, j] == pytest.approx(one.mean.point, abs=1e-12)


def test_replicates_with_missing_runs_skip_their_pairs():
    runs = grid((3,), noises=(0.0, 0.5))
    design = Design.of(runs, ["A"])
    measure = np.array([1.0, 1, 2, 2, 3, 3])
    gap = np.array([1.0, 1, 2, 2, 3, 3])
    gaps = gap[:, None].copy()
    gaps[0] = np.nan  # the first cell keeps one pair, the second all three
    gaps[5] = 0.0
    found = granulated_replicates(measure[:, None], gaps, CellPairs.of(design, gap))
    assert found[0, 0] == pytest.approx((1 + (1 - 1 - 1) / 3) / 2)
