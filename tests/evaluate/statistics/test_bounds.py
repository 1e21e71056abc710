"""The report on bounds, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from gapbench.evaluate.statistics.bounds import bound_report
from gapbench.evaluate.statistics.design import Design


def test_worked_example():
    design = Design.of(pd.DataFrame({"width": range(6)}), ["width"])
    bound = np.array([0.5, 2.0, 0.1, 0.3, np.nan, 0.9])
    gap = np.array([0.25, 0.5, 0.2, -0.1, 0.1, 0.3])
    found = bound_report(bound, gap, design)
    assert found.held.point == pytest.approx(4 / 5)
    assert found.below_one.point == pytest.approx(4 / 5)
    assert found.ratio.point == pytest.approx(np.median([2.0, 4.0, 0.5, 3.0]))
    assert (found.held.n, found.ratio.n) == (5, 4)
    assert found.held.low < found.held.point < found.held.high


def test_independent_runs_have_wilsons_interval():
    rng = np.random.default_rng(0)
    design = Design.of(pd.DataFrame({"width": range(3000)}), ["width"])
    held = rng.random(3000) < 0.7
    found = bound_report(np.where(held, 2.0, 0.0), np.ones(3000), design).held
    expected = scipy.stats.binomtest(int(held.sum()), 3000).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_the_median_ratio_is_covered_only_with_whole_recipes():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"width": np.repeat(range(40), 6), "seed": np.tile(range(6), 40)})
    design, alone = Design.of(runs, ["width"]), Design.of(runs.assign(run=range(240)), ["run"])
    covered = []
    for _ in range(200):
        ratio = np.exp(rng.standard_normal(40)[design.recipe] + 0.2 * rng.standard_normal(240))
        intervals = [bound_report(ratio, np.ones(240), one).ratio for one in (design, alone)]
        covered.append([interval.low <= 1.0 <= interval.high for interval in intervals])
    right, wrong = np.mean(covered, axis=0)
    assert 0.9 <= right <= 0.99
    assert wrong < 0.75


def test_nothing_to_report():
    design = Design.of(pd.DataFrame({"width": range(3)}), ["width"])
    found = bound_report(np.full(3, np.nan), np.ones(3), design)
    assert np.isnan([found.held.point, found.below_one.point, found.ratio.point]).all()
    assert np.isnan(bound_report(np.ones(3), -np.ones(3), design).ratio.point)
