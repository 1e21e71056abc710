"""The Kendall sums by sorting against those by products of signs."""

from __future__ import annotations

import numpy as np
import pytest

from gapbench.evaluate.statistics import pairs


@pytest.mark.parametrize("gaps_in_y", [False, True])
@pytest.mark.parametrize("gaps_in_x", [False, True])
@pytest.mark.parametrize("different", [1, 9, 10_000])
def test_sorting_gives_the_sums_of_all_pairs(
    different: int, gaps_in_x: bool, gaps_in_y: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = pairs.dense_ranks(rng.integers(0, different, (800, 3)).astype(float))
    y = pairs.dense_ranks(rng.integers(0, 50, (800, 4)).astype(float))
    if gaps_in_x:
        x[rng.random(800) < 0.2, 1] = np.nan
    if gaps_in_y:
        y[rng.random((800, 4)) < 0.1] = np.nan
    members = np.flatnonzero(rng.random(800) < 0.9)
    expected = pairs.kendall_sums(x, y, members)
    monkeypatch.setattr(pairs, "SORTED", 100)
    found = pairs.kendall_sums(x, y, members)
    for name in ("concordance", "untied_x", "untied_y", "pairs"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert different == 1 or not np.array_equal(found.concordance, pairs.kendall_sums(x, y[::-1], members).concordance)
