"""The delete-a-group jackknife on a score whose variance is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.jackknife import jackknife_intervals


def test_the_mean_has_its_standard_error_and_seeds_travel_together():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"width": np.repeat(range(100), 4), "seed": np.tile(range(4), 100)})
    design = Design.of(runs, ["width"])
    alone = Design.of(runs.assign(run=range(400)), ["run"])
    covered, wrong = [], []
    for _ in range(400):
        x = rng.standard_normal(100)[design.recipe] + 0.2 * rng.standard_normal(400)
        for one, found in ((design, covered), (alone, wrong)):
            interval = jackknife_intervals(lambda rows, x=x: np.array([x[rows].mean()]), one, rng)[0]
            found.append(interval.low <= 0 <= interval.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.035)
    assert np.mean(wrong) < 0.8


def test_few_recipes_and_undefined_scores_have_no_bounds():
    design = Design.of(pd.DataFrame({"width": range(2)}), ["width"])
    found = jackknife_intervals(lambda rows: np.array([1.0]), design, np.random.default_rng(0))[0]
    assert (found.point, found.n) == (1.0, 2)
    assert np.isnan(found.low)
    five = Design.of(pd.DataFrame({"width": range(5)}), ["width"])
    fragile = jackknife_intervals(
        lambda rows: np.array([1.0 if rows.all() else np.nan]), five, np.random.default_rng(0)
    )
    assert np.isnan(fragile[0].high)
    cut = jackknife_intervals(lambda rows: np.flatnonzero(rows)[:1] / 9.0, five, np.random.default_rng(0), lowest=0.0)
    assert cut[0].low == 0.0
