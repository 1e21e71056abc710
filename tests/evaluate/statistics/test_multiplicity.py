"""Holm and Benjamini–Hochberg against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from gapbench.evaluate.statistics.multiplicity import benjamini_hochberg, holm


@pytest.mark.parametrize("seed", range(5))
def test_agree_with_statsmodels(seed):
    p = np.random.default_rng(seed).random(30).round(1 + seed % 2) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], abs=1e-12)


def test_what_was_not_tested_does_not_count():
    p = np.array([0.01, np.nan, 0.04])
    assert holm(p)[[0, 2]] == pytest.approx([0.02, 0.04])
    assert benjamini_hochberg(p)[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(holm(p)[1])
    assert np.isnan(holm(np.full(3, np.nan))).all()


def test_family_wise_and_false_discovery_rates():
    rng = np.random.default_rng(0)
    p = rng.random((2000, 20))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)
    assert np.mean([row.min() <= 0.05 for row in p]) > 0.5  # without
    p[:, :10] = p[:, :10] ** 8
    shares = [(found[10:] <= 0.1).sum() / max((found <= 0.1).sum(), 1) for found in map(benjamini_hochberg, p)]
    assert np.mean(shares) < 0.1 * 10 / 20 * 1.3
