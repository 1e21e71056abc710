"""Kendall sums of one measure with many gaps by sorting: whole numbers, in time n log n for each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.pairs import Floats, Indices, Signs

_BLOCK = 1 << 16
"""Entries that are sorted together, so that they stay in the cache."""

Ranks = NDArray[np.unsignedinteger]


def discordant_and_tied(x: Signs, y: Signs) -> tuple[Floats, Floats]:
    """Discordant pairs of x (runs,) with each column of y (runs, replicates), and pairs tied in both; ranks, no NaN.

    In the order of y, and of x where y is tied, the discordant pairs are the inversions of x (Knight 1966).
    """
    runs, replicates = y.shape
    order = np.argsort(x, kind="stable")
    ordered = _whole(x)[order]
    gaps = np.ascontiguousarray(_whole(y).T)
    has_ties = bool((ordered[1:] == ordered[:-1]).any())
    discordant, tied = np.zeros((2, replicates))
    size = max(1, _BLOCK // max(runs, 1))
    for block in (slice(at, at + size) for at in range(0, replicates, size)):
        rows = gaps[block].take(order, axis=1)
        places = np.argsort(rows, axis=1, kind="stable")
        sequences = ordered[places]
        discordant[block] = inversions(sequences)
        if has_ties:
            tied[block] = _tied_pairs(sequences, np.take_along_axis(rows, places, axis=1))
    return discordant, tied


def inversions(sequences: Ranks) -> Indices:
    """How many pairs of each row stand in descending order: (rows, n) -> (rows,). The rows rearrange one another.

    The rows are partitioned, stably, by one binary digit after the other from the highest. A pair is inverted where the
    first digit in which the two differ has its 1 before its 0. With equal higher digits standing together, the places
    of the zeros add up to that many more than in the sorted row.
    """
    rows, n = sequences.shape
    # The sorted row has no inversion, and the places of its zeros are what the others' exceed.
    values = np.concatenate([np.sort(sequences[:1], axis=1), sequences])
    before = np.arange(rows + 1) * n
    total = np.zeros(rows + 1, np.int64)
    for digit in reversed(range(int(values[0].max(initial=0)).bit_length())):
        flat = values.reshape(-1)
        ones = (flat & flat.dtype.type(1 << digit)) != 0
        zeros = np.flatnonzero(~ones).reshape(rows + 1, -1)
        count = zeros.shape[1]
        total += zeros.sum(axis=1) - before * count
        values = np.empty_like(values)
        values[:, :count] = flat.take(zeros)
        values[:, count:] = flat.take(np.flatnonzero(ones)).reshape(rows + 1, -1)
    found: Indices = total[1:] - total[0]
    return found


def _tied_pairs(first: Ranks, second: Ranks) -> Indices:
    """How many pairs of each row are equal in both (rows, n), where equal ones stand together: (rows,)."""
    rows, n = first.shape
    starts = np.ones((rows, n), np.bool_)
    starts[:, 1:] = (first[:, 1:] != first[:, :-1]) | (second[:, 1:] != second[:, :-1])
    at = np.flatnonzero(starts)
    lengths = np.diff(at, append=rows * n)
    found: Indices = np.add.reduceat(lengths * (lengths - 1) // 2, np.searchsorted(at, np.arange(rows) * n))
    return found


def _whole(ranks: Signs) -> Ranks:
    # Sixteen binary digits are sorted by radix, many times as fast.
    return ranks.astype(np.uint16 if ranks.max(initial=0) < 1 << 16 else np.uint32)
