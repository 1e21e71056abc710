"""Weighted sums over the pairs of runs that a measure and the gap order alike or oppositely, without visiting them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gapbench.evaluate.statistics.pairs import Floats, Indices, Signs, dense_ranks

LEAF = 192
"""Runs whose pairs are compared one by one, by a matrix product."""

_PREFIX = np.tril(np.ones((64, 64), np.float32))


@dataclass(frozen=True)
class GapTree:
    """Runs sorted by gap and halved, always between two different gaps, until at most `LEAF` runs or one gap remain.

    ``order`` (runs,) sorts by gap, ``rank`` (runs,) are the sorted dense ranks; ``leaves`` and ``merges`` (start,
    middle, stop) are in that order. All runs of a merge's first half have a smaller gap than all of its second.
    """

    order: Indices
    rank: Signs
    leaves: tuple[slice, ...]
    merges: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, gap: Floats) -> GapTree:
        """The tree over gaps (runs,), finite."""
        order = np.argsort(gap, kind="stable")
        rank = dense_ranks(gap[order][:, None])[:, 0]
        edges = np.flatnonzero(np.diff(rank)) + 1
        leaves, merges, waiting = [], [], [(0, len(gap))]
        while waiting:
            start, stop = waiting.pop()
            inside = edges[(edges > start) & (edges < stop)]
            if len(inside) == 0:
                continue  # one gap: no pair is ordered
            if stop - start <= LEAF:
                leaves.append(slice(start, stop))
                continue
            middle = int(inside[np.argmin(np.abs(inside - (start + stop) // 2))])
            merges.append((start, middle, stop))
            waiting += [(start, middle), (middle, stop)]
        return cls(order, rank, tuple(leaves), tuple(merges))


@dataclass(frozen=True)
class _Merge:
    """``below`` and ``upto`` (second half,): how many of the first half have a smaller, or no larger, measure."""

    start: int
    middle: int
    stop: int
    order: Indices
    below: Indices
    upto: Indices
    tied: bool


class Dominance:
    """One measure over the runs of a tree, ready to be summed with any weights.

    Exact as long as every sum of weights stays below 2^24 (single precision), the measure's weights being whole.
    Rows of weights and of results stand in the tree's order.
    """

    def __init__(self, measure: Floats, tree: GapTree) -> None:
        """``measure`` (runs,), finite, in the order of the runs."""
        values = measure[tree.order]
        self.leaves = [(leaf, _leaf_signs(values[leaf], tree.rank[leaf])) for leaf in tree.leaves]
        self.merges = [_merge(values, *merge) for merge in tree.merges]

    def net(self, weights: Signs) -> Signs:
        """For each run i: Σ w_j sgn(μ_i − μ_j) over the runs j of smaller gap; weights (runs, columns)."""
        out = np.zeros_like(weights)
        for leaf, signs in self.leaves:
            out[leaf] = signs @ weights[leaf]
        for merge in self.merges:
            sums = prefix_sums(weights[merge.start : merge.middle].take(merge.order, axis=0))
            found = out[merge.middle : merge.stop]
            below = sums.take(merge.below, axis=0)
            found += below
            found += sums.take(merge.upto, axis=0) if merge.tied else below
            found -= sums[-1]
        return out

    def parts(self, weights: Signs) -> tuple[Signs, Signs]:
        """For each run i: Σ w_j over the runs j of smaller gap and smaller measure, and of smaller gap and larger."""
        smaller, larger = np.zeros_like(weights), np.zeros_like(weights)
        for leaf, signs in self.leaves:
            smaller[leaf] = (signs > 0).astype(np.float32) @ weights[leaf]
            larger[leaf] = (signs < 0).astype(np.float32) @ weights[leaf]
        for merge in self.merges:
            sums = prefix_sums(weights[merge.start : merge.middle].take(merge.order, axis=0))
            smaller[merge.middle : merge.stop] += sums.take(merge.below, axis=0)
            larger[merge.middle : merge.stop] += sums[-1] - sums.take(merge.upto, axis=0)
        return smaller, larger


def _leaf_signs(values: Floats, rank: Signs) -> Signs:
    signs: Signs = np.sign(np.subtract.outer(values, values)).astype(np.float32)
    signs *= rank[:, None] > rank
    return signs


def _merge(values: Floats, start: int, middle: int, stop: int) -> _Merge:
    first, second = values[start:middle], values[middle:stop]
    order = np.argsort(first, kind="stable")
    ordered = first[order]
    below, upto = np.searchsorted(ordered, second, "left"), np.searchsorted(ordered, second, "right")
    return _Merge(start, middle, stop, order, below, upto, bool((below != upto).any()))


def prefix_sums(weights: Signs) -> Signs:
    """Row k holds the sum of the first k rows: (rows, columns) -> (rows + 1, columns).

    By products with a triangle of ones in blocks of 64 rows, many times as fast as a running sum down the columns.
    """
    rows, columns = weights.shape
    size = len(_PREFIX)
    out = np.zeros((rows + 1, columns), np.float32)
    whole = rows // size * size
    if whole:
        blocks = out[1 : whole + 1].reshape(-1, size, columns)
        np.matmul(_PREFIX, weights[:whole].reshape(-1, size, columns), out=blocks)
        for block in range(1, len(blocks)):
            blocks[block] += blocks[block - 1, -1]
    if rows > whole:
        np.matmul(_PREFIX[: rows - whole, : rows - whole], weights[whole:], out=out[whole + 1 :])
        out[whole + 1 :] += out[whole]
    return out
