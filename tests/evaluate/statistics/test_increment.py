"""The cross-fitted increment against refitting fold by fold."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression

from gapbench.evaluate.statistics.adjusted import main_effects
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.increment import r2_increment, r2_increments


def zoo(seed=0):
    rng = np.random.default_rng(seed)
    runs = pd.DataFrame(itertools.product(range(4), range(3), range(2), range(2)), columns=["A", "B", "C", "seed"])
    runs = runs[rng.random(len(runs)) < 0.9].reset_index(drop=True)
    y = runs["A"].to_numpy() + rng.standard_normal(len(runs))
    return runs, Design.of(runs, ["A", "B", "C"]), y, rng


def test_agrees_with_refitting():
    _, design, y, rng = zoo()
    x = y + rng.standard_normal(len(y))
    found = r2_increment(x, y, design, np.random.default_rng(5))
    present, recipe = np.unique(design.recipe, return_inverse=True)
    fold = np.random.default_rng(5).permutation(np.arange(len(present)) % 5)[recipe]
    ranks_x, ranks_y, effects = rankdata(x), rankdata(y), main_effects(design)
    squares = np.zeros(2)
    for one in range(5):
        for at, matrix in enumerate((effects, np.column_stack([effects, ranks_x]))):
            fit = LinearRegression(fit_intercept=False).fit(matrix[fold != one], ranks_y[fold != one])
            squares[at] += ((ranks_y - fit.predict(matrix))[fold == one] ** 2).sum()
    expected = (squares[0] - squares[1]) / ((ranks_y - ranks_y.mean()) ** 2).sum()
    assert found.point == pytest.approx(expected, abs=1e-10)
    assert found.low < found.point < found.high


def test_noise_adds_nothing_and_the_gap_everything():
    runs, design, y, rng = zoo()
    noise, gap, axis = r2_increments(
        np.stack([rng.standard_normal(len(y)), y, runs["A"].to_numpy(float)], axis=1), y, design, rng
    )
    assert noise.point < 0.05
    assert noise.low < 0
    assert gap.low > 0.3
    assert axis.point == 0.0  # the design knows it already


def test_it_is_in_sample_that_noise_would_help():
    _, design, y, rng = zoo()
    effects, total = main_effects(design), ((rankdata(y) - rankdata(y).mean()) ** 2).sum()
    cross, inside = [], []
    for _ in range(30):
        x = rng.standard_normal(len(y))
        cross.append(r2_increment(x, y, design, rng).point)
        left = [
            np.linalg.lstsq(matrix, rankdata(y))[1][0] for matrix in (effects, np.column_stack([effects, rankdata(x)]))
        ]
        inside.append((left[0] - left[1]) / total)
    assert min(inside) > 0
    assert np.mean(cross) < 0 < np.mean(inside)


def test_undefined():
    _, design, y, rng = zoo()
    assert np.isnan(r2_increment(y, np.ones(len(y)), design, rng).point)
    assert np.isnan(r2_increment(np.full(len(y), np.nan), y, design, rng).point)
