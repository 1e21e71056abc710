"""The smallest detectable tau is found at the promised rate, by simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.power import smallest_detectable
from gapbench.evaluate.statistics.rank import tau_replicates
from gapbench.evaluate.statistics.resampled_tau import kendall_tau
from gapbench.evaluate.statistics.resampling import permuted


@pytest.mark.parametrize("recipes", [20, 60])
def test_a_measure_of_that_tau_is_found_four_times_in_five(recipes):
    rng = np.random.default_rng(0)
    design = Design.of(pd.DataFrame({"width": range(recipes)}), ["width"])
    gap = rng.standard_normal(recipes)
    null = tau_replicates(rng.standard_normal((recipes, 1)), permuted(gap, design, 4000, rng)).tau_b()[0]
    tau = smallest_detectable(null)
    critical = np.quantile(np.abs(null), 0.95)

    def found(true_tau):
        r = np.sin(np.pi * true_tau / 2)
        x, y = rng.standard_normal((2, 1500, recipes))
        other = r * x + np.sqrt(1 - r * r) * y
        taus = [kendall_tau(a[:, None], b)[1][0] for a, b in zip(x, other)]
        return np.mean(np.abs(taus) > critical)

    assert 0.78 <= found(tau) <= 0.88
    assert found(0.7 * tau) < 0.65


def test_more_models_detect_less_and_few_permutations_nothing():
    rng = np.random.default_rng(0)
    assert smallest_detectable(0.1 * rng.standard_normal(1000)) == pytest.approx(0.1 * (1.96 + 0.84), rel=0.08)
    assert smallest_detectable(0.5 + 0.1 * rng.standard_normal(1000), 0.5) == pytest.approx(0.28, rel=0.08)
    assert np.isnan(smallest_detectable(np.zeros(5)))
