"""Regret of choosing by a measure, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.selection import selection_regret

DESIGN = Design.of(pd.DataFrame({"width": range(7)}), ["width"])
TRAIN = np.array([0.0, 0.0, 0.0, 0.1, 0.1, 0.2, 0.0])
TEST = np.array([0.30, 0.20, 0.25, 0.5, 0.4, 0.9, 0.21])


def test_worked_choices():
    measure = np.array([1.0, 2.0, 3.0, 1.0, 5.0, 0.0, 4.0])
    found = selection_regret(measure, TRAIN, TEST, DESIGN)
    # Four runs of error 0: the first is chosen, .30 against .20; two of error .1: .5 against .4; one of .2: no choice.
    assert found.regret.point == pytest.approx((4 * 0.10 + 2 * 0.10) / 6)
    assert found.better_than_random.point == pytest.approx((4 * (0.24 - 0.30) + 2 * (0.45 - 0.5)) / 6)
    assert found.sets == 2
    assert found.regret.n == 7


def test_the_test_error_itself_has_no_regret_and_ties_are_shared():
    assert selection_regret(TEST, TRAIN, TEST, DESIGN).regret.point == 0.0
    constant = selection_regret(np.ones(7), TRAIN, TEST, DESIGN)
    assert constant.better_than_random.point == pytest.approx(0.0, abs=1e-12)
    assert constant.regret.point > 0


def test_only_runs_of_the_same_task_compete():
    task = np.array([0, 0, 1, 0, 1, 0, 1])
    found = selection_regret(TEST, TRAIN, TEST, DESIGN, task=task)
    assert found.sets == 2  # {0, 1} and {2, 6}
    runs = pd.DataFrame({"width": [0, 0, 1, 1], "label_noise": [0.0, 0.5, 0.0, 0.5]})
    twins = selection_regret(np.arange(4.0), np.zeros(4), np.array([0.1, 0.5, 0.2, 0.4]), Design.of(runs, ["width"]))
    assert twins.sets == 2
    assert twins.regret.point == pytest.approx((0.0 + 0.1) / 2)


def test_bounds_and_undefined():
    rng = np.random.default_rng(0)
    design = Design.of(pd.DataFrame({"width": range(60)}), ["width"])
    test = rng.uniform(0, 1, 60)
    found = selection_regret(rng.standard_normal(60), np.zeros(60), test, design, rng=rng)
    assert found.regret.low <= found.regret.point <= found.regret.high
    assert np.isnan(selection_regret(np.full(7, np.nan), TRAIN, TEST, DESIGN).regret.point)
    assert selection_regret(np.full(7, np.nan), TRAIN, TEST, DESIGN).sets == 0
