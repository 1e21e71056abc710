"""The conditional information of many measures with many rearrangements of the gap, for its null band."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.special import xlogy

from gapbench.evaluate.statistics.conditional_information import varying_axes
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.pairs import BLOCK, Floats, Indices, Signs, dense_ranks, ratio, signs

_ORDERS = [(s, t) for s in (1, 0, -1) for t in (1, 0, -1)]


def information_replicates(measures: Floats, gaps: Floats, design: Design) -> Floats:
    """K (`conditional_mutual_information`) of each column of measures (runs, measures) with each of gaps (runs,
    replicates), which may have NaN: (measures, replicates).

    Runs without a gap drop out of the replicate. The pairs are compared one by one, for every pair of axes, in matrix
    products over all measures and replicates: the time grows with the square of the runs.
    """
    names, codes = varying_axes(design)
    out = np.full((measures.shape[1], gaps.shape[1]), np.nan)
    if len(names) < 3:
        return out
    x = dense_ranks(measures)
    y = dense_ranks(gaps.reshape(-1, 1)).reshape(gaps.shape)
    width = max(1, (BLOCK >> 2) // (9 * measures.shape[1]))
    for at in range(0, gaps.shape[1], width):
        out[:, at : at + width] = _least(x, y[:, at : at + width], codes)
    return out


def _least(x: Signs, y: Signs, codes: Indices) -> Floats:
    """The least normalised information over the sets of at most two axes: (measures, replicates)."""
    axes = codes.shape[1]
    # Every axis is the first of one of the pairs: its own cells are added up from those of that pair.
    pairs = [(axis, (axis + 1) % axes) for axis in range(axes)]
    pairs += [pair for pair in itertools.combinations(range(axes), 2) if {pair, pair[::-1]}.isdisjoint(pairs)]
    shape = (9, x.shape[1], y.shape[1])
    least = np.full(shape[1:], np.inf)
    whole = np.zeros(shape)
    for at, (a, b) in enumerate(pairs):
        own: dict[tuple[int, int], Floats] = {}
        sums = np.zeros((2, *shape[1:]))
        for first, second, counts in _cells(x, y, codes[:, a], codes[:, b]):
            if first == second:
                counts += counts[::-1]
            sums += (1 if first == second else 2) * _information(counts)
            if at < axes:
                cell = first[0], second[0]
                if cell[0] == cell[1] and first != second:
                    counts += counts[::-1]
                own[cell] = own.get(cell, 0.0) + counts
        np.fmin(least, _normalised(sums), out=least)
        if at < axes:
            sums = np.zeros((2, *shape[1:]))
            for (u, v), counts in own.items():
                sums += (1 if u == v else 2) * _information(counts)
                if at == 0:
                    whole += counts if u == v else counts + counts[::-1]
            np.fmin(least, _normalised(sums), out=least)
    np.fmin(least, _normalised(_information(whole)), out=least)
    return np.where(np.isinf(least), np.nan, least)


Cell = tuple[int, int]


def _cells(x: Signs, y: Signs, a: Indices, b: Indices) -> Iterator[tuple[Cell, Cell, Floats]]:
    """Each two cells of a pair of axes, or one with itself, with the counts of the nine orders (`_ORDERS`) of their
    pairs of runs; in a cell every unordered pair once.
    """
    members = {(int(u), int(v)): np.flatnonzero((a == u) & (b == v)) for u in np.unique(a) for v in np.unique(b)}
    filled = [(cell, rows) for cell, rows in members.items() if len(rows)]
    for at, (first, rows) in enumerate(filled):
        upper = np.triu_indices(len(rows), 1)
        yield first, first, _orders(x, y, rows[upper[0]], rows[upper[1]])
        for second, others in filled[at + 1 :]:
            yield first, second, _orders(x, y, np.repeat(rows, len(others)), np.tile(others, len(rows)))


def _orders(x: Signs, y: Signs, first: Indices, second: Indices) -> Floats:
    """How many of the pairs have each order of x and of y: (9, measures, replicates)."""
    counts = np.zeros((9, x.shape[1], y.shape[1]))
    size = max(1, BLOCK // max(x.shape[1], y.shape[1]))
    for at in range(0, len(first), size):
        i, j = first[at : at + size], second[at : at + size]
        x_signs, y_signs = signs(x, i, j), signs(y, i, j)
        valid = (~np.isnan(y[i] + y[j])).astype(np.float32)
        y_differs = np.abs(y_signs)
        y_sum, y_untied, total = (part.sum(axis=0, dtype=np.float64) for part in (y_signs, y_differs, valid))
        both, measure_only = (x_signs.T @ y_signs).astype(np.float64), x_signs.T @ y_differs
        x_sum = x_signs.T @ valid
        x_differs = np.abs(x_signs, out=x_signs)
        if x_differs.all():
            gap_only, differing, x_untied = y_sum, y_untied, total
        else:
            gap_only, x_untied = (x_differs.T @ y_signs).astype(np.float64), x_differs.T @ valid
            differing = (x_differs.T @ y_differs).astype(np.float64)
        found = {
            (s, t): (differing + s * t * both + s * measure_only + t * gap_only) / 4
            for s, t in itertools.product((1, -1), repeat=2)
        }
        for s in (1, -1):
            found[s, 0] = (x_untied + s * x_sum) / 2 - found[s, 1] - found[s, -1]
            found[0, s] = (y_untied + s * y_sum) / 2 - found[1, s] - found[-1, s]
        found[0, 0] = total - sum(found.values())
        for at_order, (s, t) in enumerate(_ORDERS):
            counts[at_order] += found[s, t]
    return counts


def _information(counts: Floats) -> Floats:
    """n I and n H(gap) in nats, of the counts of the nine orders: (2, measures, replicates)."""
    table = counts.reshape(3, 3, *counts.shape[1:])
    total, of_measure, of_gap = table.sum(axis=(0, 1)), table.sum(axis=1), table.sum(axis=0)
    entropy = xlogy(total, total) - xlogy(of_gap, of_gap).sum(axis=0)
    information = entropy + xlogy(counts, counts).sum(axis=0) - xlogy(of_measure, of_measure).sum(axis=0)
    return np.stack([information, entropy])


def _normalised(sums: Floats) -> Floats:
    return ratio(np.maximum(sums[0], 0.0), np.where(sums[1] > 1e-9, sums[1], 0.0))
