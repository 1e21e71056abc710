"""Woodruff's bounds of a quantile cover it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.bounds import share
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.quantile import quantile_interval


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_they_cover(level):
    rng = np.random.default_rng(0)
    design, covered = Design.of(pd.DataFrame({"width": range(80)}), ["width"]), []
    for _ in range(500):
        values = rng.random(80)
        found = quantile_interval(values, level, lambda below: share(below, design), 80)
        assert found.point == np.quantile(values, level)
        covered.append(found.low <= level <= found.high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_nothing_has_no_quantile():
    design = Design.of(pd.DataFrame({"width": range(2)}), ["width"])
    assert np.isnan(quantile_interval(np.zeros(0), 0.5, lambda below: share(below, design), 0).point)
    assert np.isnan(quantile_interval(np.array([1.0, 2.0]), 0.5, lambda below: share(below, design), 2).low)
