"""The conditional information of many measures with many rearrangements of the gap, for its null band."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from gapbench.evaluate.statistics.conditional_information import varying_axes
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.pairs import BLOCK, Floats, Indices, Signs, dense_ranks, ratio, signs

_ORDERS = [(s, t) for s in (1, 0, -1) for t in (1, 0, -1)]

_MOST_CELLS = 36
"""The most cells of axes that are divided at once; a pair of axes may have more."""

_ROOM = 1 << 25
"""Entries of the counts that are kept at once; 256 MiB."""

Cell = tuple[int, ...]
Counts = dict[tuple[Cell, Cell], Floats]


def information_replicates(measures: Floats, gaps: Floats, design: Design) -> Floats:
    """K (`conditional_mutual_information`) of each column of measures (runs, measures) with each of gaps (runs,
    replicates), which may have NaN: (measures, replicates).

    Runs without a measure or a gap drop out. The pairs are compared one by one, in matrix products over all measures
    and replicates, for a few axes at once of which each pair's counts are sums: the time grows with the square of the
    runs.
    """
    names, codes = varying_axes(design)
    out = np.full((measures.shape[1], gaps.shape[1]), np.nan)
    if len(names) < 3:
        return out
    x = dense_ranks(measures)
    y = dense_ranks(gaps.reshape(-1, 1)).reshape(gaps.shape)
    sets = _covering([int(column.max()) + 1 for column in codes.T])
    cells = max(min(len(np.unique(codes[:, axes], axis=0)), _MOST_CELLS) for axes, _ in sets)
    width = max(1, _ROOM // (9 * measures.shape[1] * cells * (cells + 1) // 2))
    for at in range(0, gaps.shape[1], width):
        out[:, at : at + width] = _least(x, y[:, at : at + width], codes, sets)
    return out


def _covering(values: Sequence[int]) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Sets of axes that together hold every pair, each with the pairs that no earlier one holds."""
    left = set(itertools.combinations(range(len(values)), 2))
    sets = []
    while left:
        chosen = list(min(left))
        for axis in range(len(values)):
            size = math.prod(values[other] for other in chosen) * values[axis]
            gains = any(tuple(sorted((axis, other))) in left for other in chosen)
            if axis not in chosen and gains and size <= _MOST_CELLS:
                chosen.append(axis)
        chosen.sort()
        held = [pair for pair in itertools.combinations(chosen, 2) if pair in left]
        left -= set(held)
        sets.append((chosen, held))
    return sets


def _least(x: Signs, y: Signs, codes: Indices, sets: Sequence[tuple[list[int], list[tuple[int, int]]]]) -> Floats:
    """The least normalised information over the sets of at most two axes: (measures, replicates)."""
    least = np.full((x.shape[1], y.shape[1]), np.inf)
    single: dict[int, Counts] = {}
    for axes, pairs in sets:
        if len(axes) == 2:
            # Each two cells of a pair come once: they need not be kept.
            sums = np.zeros((2, *least.shape))
            own: list[Counts] = [{}, {}]
            for first, second, counts in _cells(x, y, codes[:, axes]):
                sums += (1 if first == second else 2) * _information(counts)
                for at in (0, 1):
                    _add(own[at], first, second, counts, (at,))
            np.fmin(least, _normalised(sums), out=least)
            single |= dict(zip(axes, own))
            continue
        of_pair: dict[tuple[int, int], Counts] = {pair: {} for pair in pairs}
        for first, second, counts in _cells(x, y, codes[:, axes]):
            for pair, kept in of_pair.items():
                _add(kept, first, second, counts, (axes.index(pair[0]), axes.index(pair[1])))
        for pair, kept in of_pair.items():
            np.fmin(least, _normalised(_total(kept)), out=least)
            single |= {pair[at]: _projected(kept, (at,)) for at in (0, 1) if pair[at] not in single}
    for kept in single.values():
        np.fmin(least, _normalised(_total(kept)), out=least)
    np.fmin(least, _normalised(_total(_projected(next(iter(single.values())), ()))), out=least)
    return np.where(np.isinf(least), np.nan, least)


def _add(kept: Counts, first: Cell, second: Cell, counts: Floats, positions: tuple[int, ...]) -> None:
    """Add the counts of two cells to those of the cells that hold them, by the values in these positions.

    Two cells are kept in ascending order; a cell with itself holds ordered pairs of runs, both ways.
    """
    one, other = tuple(first[at] for at in positions), tuple(second[at] for at in positions)
    if one == other and first != second:
        counts = counts + counts[::-1]
    elif one > other:
        one, other, counts = other, one, counts[::-1]
    if (one, other) in kept:
        kept[one, other] += counts
    else:
        kept[one, other] = counts.copy()


def _projected(kept: Counts, positions: tuple[int, ...]) -> Counts:
    out: Counts = {}
    for (first, second), counts in kept.items():
        _add(out, first, second, counts, positions)
    return out


def _total(kept: Counts) -> Floats:
    parts = [(1 if first == second else 2) * _information(counts) for (first, second), counts in kept.items()]
    return np.asarray(np.sum(parts, axis=0))


def _cells(x: Signs, y: Signs, codes: Indices) -> Iterator[tuple[Cell, Cell, Floats]]:
    """Each two cells of these axes, or one with itself, with the counts of the nine orders (`_ORDERS`) of their pairs
    of runs; in a cell every pair both ways.
    """
    cells, number = np.unique(codes, axis=0, return_inverse=True)
    filled = [(tuple(map(int, cell)), np.flatnonzero(number.reshape(-1) == at)) for at, cell in enumerate(cells)]
    for at, (first, rows) in enumerate(filled):
        upper = np.triu_indices(len(rows), 1)
        own = _orders(x, y, rows[upper[0]], rows[upper[1]])
        yield first, first, own + own[::-1]
        for second, others in filled[at + 1 :]:
            yield first, second, _orders(x, y, np.repeat(rows, len(others)), np.tile(others, len(rows)))


def _orders(x: Signs, y: Signs, first: Indices, second: Indices) -> Floats:
    """How many of the pairs have each order of x and of y: (9, measures, replicates)."""
    counts = np.zeros((9, x.shape[1], y.shape[1]))
    size = max(1, BLOCK // max(x.shape[1], y.shape[1]))
    for at in range(0, len(first), size):
        x_parts, y_parts = (_parts(values, first[at : at + size], second[at : at + size]) for values in (x, y))
        products: dict[tuple[int, int], Floats] = {}
        for a, b in itertools.product(x_parts, y_parts):
            if (id(a), id(b)) not in products:
                products[id(a), id(b)] = _product(a, b)
        (both, measure_only, x_sum), (gap_only, differing, x_untied), (y_sum, y_untied, total) = (
            [products[id(a), id(b)] for b in y_parts] for a in x_parts
        )
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


def _parts(values: Signs, first: Indices, second: Indices) -> tuple[Signs, Signs, Signs]:
    """Of pairs of runs: the signs, which differ, and which are known; one and the same array where they are equal.

    Where every pair is known in every column, one column stands for all.
    """
    sign = signs(values, first, second)
    differs = np.abs(sign)
    known = np.ones((len(sign), 1), np.float32)
    missing: NDArray[np.bool_] = np.asarray(np.isnan(values).any(axis=1))
    if missing[first].any() or missing[second].any():
        known = (~np.isnan(values[first] + values[second])).astype(np.float32)
    return sign, known if (differs == known).all() else differs, known


def _product(x: Signs, y: Signs) -> Floats:
    return np.asarray(x.T @ y, np.float64)


def _information(counts: Floats) -> Floats:
    """n I and n H(gap) in nats, of the counts of the nine orders: (2, measures, replicates)."""
    table = counts.reshape(3, 3, *counts.shape[1:])
    total, of_measure, of_gap = table.sum(axis=(0, 1)), table.sum(axis=1), table.sum(axis=0)
    entropy = xlogy(total, total) - xlogy(of_gap, of_gap).sum(axis=0)
    information = entropy + xlogy(counts, counts).sum(axis=0) - xlogy(of_measure, of_measure).sum(axis=0)
    return np.stack([information, entropy])


def _normalised(sums: Floats) -> Floats:
    return ratio(np.maximum(sums[0], 0.0), np.where(sums[1] > 1e-9, sums[1], 0.0))
