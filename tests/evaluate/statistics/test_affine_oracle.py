"""The affine oracle against a general-purpose solver."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from gapbench.evaluate.statistics.affine_oracle import affine_oracle, robust_line
from gapbench.evaluate.statistics.design import Design


def zoo(seed=0):
    rng = np.random.default_rng(seed)
    runs = pd.DataFrame(itertools.product(range(3), range(2), (0.0, 0.5)), columns=["A", "B", "label_noise"])
    runs = pd.concat([runs.assign(seed=at) for at in range(3)], ignore_index=True)
    gap = 0.1 * runs["A"].to_numpy() + runs["label_noise"].to_numpy() + 0.05 * rng.standard_normal(len(runs))
    return runs, Design.of(runs, ["A", "B"]), gap, rng


def environments(runs):
    return np.stack([runs[name] == value for name in ("A", "B", "label_noise") for value in runs[name].unique()])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1.0, 1e30])
def test_the_fit_is_the_solvers(seed, scale):
    runs, _, gap, rng = zoo(seed)
    x = gap + rng.standard_normal(len(gap)) * (0.1, 0.5, 2.0, 10.0)[seed]
    masks = environments(runs)

    def worst(line):
        return max(np.mean((gap - line[0] * x - line[1])[one] ** 2) for one in masks)

    slope, intercept = robust_line(scale * x[:, None], gap, masks)
    epigraph = scipy.optimize.minimize(
        lambda z: z[2],
        [0.1, gap.mean(), worst((0.1, gap.mean()))],
        constraints=[
            {"type": "ineq", "fun": lambda z, one=one: z[2] - np.mean((gap - z[0] * x - z[1])[one] ** 2)}
            for one in masks
        ],
        bounds=[(0, None), (None, None), (None, None)],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = worst((slope[0] * scale, intercept[0]))
    assert found == pytest.approx(epigraph.fun, rel=1e-5)
    assert found <= epigraph.fun + 1e-9
    least_squares = np.polyfit(x, gap, 1)
    assert worst((max(least_squares[0], 0), least_squares[1])) > found


def test_a_wrong_sign_gets_no_slope():
    runs, _, gap, _ = zoo()
    slope, _ = robust_line(np.stack([-gap, gap, np.ones(len(gap))], axis=1), gap, environments(runs))
    assert slope == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_a_perfect_measure_leaves_nothing_and_held_out_is_harder_than_in_sample():
    _, design, gap, rng = zoo()
    perfect = affine_oracle(7 * gap - 3, gap, design)
    assert perfect.held_out.point == pytest.approx(0.0, abs=1e-7)
    assert perfect.constant.point > 0.3
    useful = affine_oracle(gap + 0.1 * rng.standard_normal(len(gap)), gap, design)
    assert useful.in_sample.point < useful.held_out.point < useful.constant.point
    useless = affine_oracle(rng.standard_normal(len(gap)), gap, design, rng=rng)
    assert useless.held_out.point > 0.8 * useless.constant.point
    assert useless.held_out.low < useless.held_out.point < useless.held_out.high


def test_the_held_out_environment_is_not_seen():
    """Scored by hand for one environment at a time."""
    runs, design, gap, rng = zoo()
    x = gap + 0.2 * rng.standard_normal(len(gap))
    masks, worst = environments(runs), 0.0
    for one in masks:
        slope, intercept = robust_line(x[~one][:, None], gap[~one], masks[:, ~one])
        worst = max(worst, np.sqrt(np.mean((gap[one] - slope[0] * x[one] - intercept[0]) ** 2)))
    assert affine_oracle(x, gap, design).held_out.point == pytest.approx(worst, rel=1e-9)


def test_no_axis_no_oracle():
    design = Design.of(pd.DataFrame({"seed": range(4)}), [])
    assert np.isnan(affine_oracle(np.arange(4.0), np.arange(4.0), design).held_out.point)
