"""Discordant and tied pairs by sorting against those counted one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gapbench.evaluate.statistics import discordance
from gapbench.evaluate.statistics.discordance import discordant_and_tied, inversions


def test_inversions_are_those_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.permuted(np.tile(rng.integers(0, 40, 60), (5, 1)), axis=1).astype(np.uint16)
    expected = [sum(a > b for a, b in itertools.combinations(row, 2)) for row in rows.tolist()]
    assert inversions(rows).tolist() == expected
    assert len(set(expected)) > 1
    assert inversions(np.arange(7, dtype=np.uint16)[None, ::-1]).tolist() == [21]


@pytest.mark.parametrize(("in_x", "in_y"), [(1, 5), (6, 1), (6, 5), (1000, 5), (6, 1000), (1000, 1000)])
@pytest.mark.parametrize("block", [1, 100, 1 << 16])
def test_every_kind_of_tie(in_x: int, in_y: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discordance, "_BLOCK", block)
    rng = np.random.default_rng(in_x + in_y)
    x, y = (rng.integers(0, n, shape).astype(np.float32) for n, shape in ((in_x, 50), (in_y, (50, 3))))
    discordant, tied = discordant_and_tied(x, y)
    pairs = list(itertools.combinations(range(50), 2))
    for replicate, gap in enumerate(y.T):
        assert discordant[replicate] == sum((x[i] - x[j]) * (gap[i] - gap[j]) < 0 for i, j in pairs)
        assert tied[replicate] == sum(x[i] == x[j] and gap[i] == gap[j] for i, j in pairs)


def test_ranks_of_more_than_sixteen_binary_digits() -> None:
    x = np.array([70_000, 5_000, 65_536, 0], np.float32)
    assert discordant_and_tied(x, np.arange(4, dtype=np.float32)[:, None])[0].tolist() == [5.0]


@pytest.mark.parametrize("runs", [0, 1])
def test_without_pairs(runs: int) -> None:
    discordant, tied = discordant_and_tied(np.zeros(runs, np.float32), np.zeros((runs, 2), np.float32))
    assert discordant.tolist() == tied.tolist() == [0.0, 0.0]
