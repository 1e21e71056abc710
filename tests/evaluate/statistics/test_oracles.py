"""Small tables whose rank correlations can be worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import granulated_tau
from gapbench.evaluate.statistics.rank import tau_a, tau_b


def test_ties():
    measure, gap = np.array([1.0, 2, 2, 3, 4]), np.array([1.0, 3, 2, 2, 5])
    design = Design.of(pd.DataFrame({"model": range(5)}), ["model"])
    assert tau_a(measure, gap, design).point == pytest.approx(0.6, rel=1e-9)
    assert tau_b(measure, gap, design).point == pytest.approx(0.6666666667, rel=1e-9)
    broken = measure + 0.01 * np.arange(5)
    assert tau_a(broken, gap, design).point != pytest.approx(0.6, abs=0.05)
    assert tau_b(broken, gap, design).point != pytest.approx(0.6666666667, abs=0.05)


GRID_GAP = np.array([0.1, 0.14, 0.12, 0.2, 0.3, 0.33, 0.31, 0.26])
GRID_MEASURE = np.array([1, 2, 3, 2.5, 4, 6, 5, 7])


def grid_scores(order="ABC"):
    runs = pd.DataFrame(itertools.product((0, 1), repeat=3), columns=list(order))
    design = Design.of(runs, ["A", "B", "C"])
    granulated = granulated_tau(GRID_MEASURE, GRID_GAP, design)
    psi = {axis: found.point for axis, found in granulated.by_axis.items()}
    return {"tau": tau_b(GRID_MEASURE, GRID_GAP, design).point, **psi, "mean": granulated.mean.point}


def test_grid():
    assert grid_scores() == pytest.approx({"tau": 0.6428571429, "A": 1, "B": 0.5, "C": 0, "mean": 0.5}, rel=1e-9)


def test_grid_notices_the_order_of_its_axes():
    assert grid_scores("CBA") == pytest.approx({"tau": 0.6428571429, "A": 0, "B": 0.5, "C": 1, "mean": 0.5}, rel=1e-9)
