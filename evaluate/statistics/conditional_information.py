"""Conditional mutual information of the orders that a measure and the gap give to pairs of runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.dominance import Dominance, GapTree, prefix_sums
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.jackknife import jackknife_intervals
from gapbench.evaluate.statistics.pairs import Floats, Indices, Signs

LABEL_NOISE = "label_noise"

Names = tuple[str, ...]


@dataclass(frozen=True)
class ConditionalInformation:
    """The normalised information given each set of at most two axes (NaN: 0/0), and the smallest of them."""

    minimum: Interval
    by_set: Mapping[Names, float]


def conditional_mutual_information(
    measure: Floats, gap: Floats, design: Design, *, rng: np.random.Generator | None = None
) -> ConditionalInformation:
    """K = min over |S| <= 2 of I(V_μ; V_g | U_S) / H(V_g | U_S), plug-in.

    Over ordered pairs of different runs: V_μ = sgn Δμ and V_g = sgn Δg, each −, 0 or +, and U_S = the values of the
    axes in S of both runs; every pair weighs the same. The label noise is one more axis where it varies. It does not
    see the sign of the measure, and it is biased upward: a measure that knows nothing scores above 0, and belongs
    beside its null band (`information_replicates`). NaN below three axes that vary, for then S can cover them all.
    ``measure`` and ``gap`` (runs,): runs without a finite value of both drop out. Bounds, given ``rng``, by a jackknife
    over groups of recipes, not below 0; they are those of the plug-in value, bias included.
    Source: Jiang et al. 2020, section 2.2.2.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    x, y, kept = measure[covered][:, None], gap[covered], design.take(covered)
    sets, found = informations(x, y, kept)
    by_set = {names: float(value) for names, value in zip(sets, found[0])}
    if rng is None:
        minimum = Interval(float(smallest(found)[0]), math.nan, math.nan, len(y))
    else:
        minimum = jackknife_intervals(
            lambda rows: smallest(informations(x[rows], y[rows], kept.take(rows))[1]), kept, rng, lowest=0.0
        )[0]
    return ConditionalInformation(minimum, by_set)


def pgdl_score(measure: Floats, gap: Floats, design: Design) -> Interval:
    """The score of the 2020 competition "Predicting Generalization in Deep Learning", for comparison with its tables.

    100 · min over sets S of two axes of mean I(V_μ; V_g) / mean H(V_g): the means are over the cells of U_S, each
    weighing the same; pairs of a run with itself are in; V is + or else −, so that ties count as −. The label noise is
    one more axis where it varies. On an incomplete grid the empty cells are left out of the means. No bounds. NaN below
    two axes, and where no set leaves the gap anything to tell.
    Source: the competition's scoring program (mutual_information.py); Jiang et al. 2021.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    return Interval(
        float(pgdl_scores(measure[covered][:, None], gap[covered], design.take(covered))[0]),
        math.nan,
        math.nan,
        int(covered.sum()),
    )


def informations(measures: Floats, gap: Floats, design: Design) -> tuple[list[Names], Floats]:
    """The sets of at most two axes, and (measures, sets) the normalised information of each column of measures.

    No sets below three axes that vary. About n log n operations a measure and cell of two axes.
    """
    names, codes = varying_axes(design)
    if len(names) < 3:
        return [], np.zeros((measures.shape[1], 0))
    cells = Cells.of(codes)
    sets = [(), *((name,) for name in names), *(tuple(names[axis] for axis in pair) for pair in cells.pairs)]
    out = np.empty((measures.shape[1], len(sets)))
    for column, tables in enumerate(_tables(measures, gap, cells)):
        single = {pair[0]: cells.of_first(table, pair) for pair, table in zip(cells.pairs, tables)}
        single |= {pair[1]: cells.of_second(table, pair) for pair, table in zip(cells.pairs, tables)}
        whole = tables[0].sum(axis=(0, 1), keepdims=True)
        ordered = [whole, *(single[axis] for axis in range(len(names))), *tables]
        out[column] = [_normalised(*_information(table)) for table in ordered]
    return sets, out


def smallest(found: Floats) -> Floats:
    """The least of each row, without the undefined; NaN where all are: (measures, sets) -> (measures,)."""
    defined = ~np.isnan(found)
    least = np.where(defined, found, np.inf).min(axis=1, initial=np.inf)
    return np.where(defined.any(axis=1), least, np.nan)


def pgdl_scores(measures: Floats, gap: Floats, design: Design) -> Floats:
    """`pgdl_score` of each column of measures (runs, measures), finite: (measures,)."""
    names, codes = varying_axes(design)
    if len(names) < 2:
        return np.full(measures.shape[1], np.nan)
    cells = Cells.of(codes)
    out = np.empty((measures.shape[1], len(cells.pairs)))
    for column, tables in enumerate(_tables(measures, gap, cells)):
        for at, table in enumerate(tables):
            larger, rest = table[..., :1, :], table[..., 1:, :].sum(axis=-2, keepdims=True)
            halves = np.concatenate([larger, rest], axis=-2)
            halves = np.concatenate([halves[..., :1], halves[..., 1:].sum(axis=-1, keepdims=True)], axis=-1)
            own = np.arange(len(table))
            halves[own, own, 1, 1] += cells.sizes[at]
            total = halves.sum(axis=(-2, -1), keepdims=True)
            shares = halves[total[..., 0, 0] > 0] / total[total > 0][:, None, None]
            out[column, at] = _normalised(*_information(shares))
    return 100 * smallest(out)


def varying_axes(design: Design) -> tuple[list[str], Indices]:
    """The axes with two values or more, the label noise among them, and their values numbered: (runs, axes)."""
    columns = [*design.codes.T, design.level]
    names = [*design.axes, LABEL_NOISE]
    dense = [np.unique(column, return_inverse=True)[1] for column in columns]
    kept = [at for at, column in enumerate(dense) if column.max(initial=0) > 0]
    codes = np.stack([dense[at] for at in kept], axis=1) if kept else np.zeros((len(design), 0), np.int64)
    return [names[at] for at in kept], codes.astype(np.int64)


@dataclass(frozen=True)
class Cells:
    """The cells of each pair of axes: ``members`` (runs, all cells) is 1 where a run lies in a cell.

    ``blocks`` are each pair's columns, ``sizes`` the runs in each of its cells, ``values`` how many each axis has.
    """

    pairs: Sequence[tuple[int, int]]
    values: Sequence[int]
    members: Signs
    blocks: Sequence[slice]
    sizes: Sequence[Floats]

    @classmethod
    def of(cls, codes: Indices) -> Cells:
        """Of these numbered values (runs, axes)."""
        values = [int(column.max()) + 1 for column in codes.T]
        pairs = list(itertools.combinations(range(len(values)), 2))
        members, blocks, at = [], [], 0
        for a, b in pairs:
            cell, count = codes[:, a] * values[b] + codes[:, b], values[a] * values[b]
            members.append((cell[:, None] == np.arange(count)).astype(np.float32))
            blocks.append(slice(at, at + count))
            at += count
        sizes = [block.sum(axis=0, dtype=np.float64) for block in members]
        return cls(pairs, values, np.concatenate(members, axis=1), blocks, sizes)

    def of_first(self, table: Floats, pair: tuple[int, int]) -> Floats:
        """The table of a pair of axes (cells, cells, 3, 3) added up over the values of the second."""
        a, b = (self.values[axis] for axis in pair)
        return np.asarray(table.reshape(a, b, a, b, 3, 3).sum(axis=(1, 3)))

    def of_second(self, table: Floats, pair: tuple[int, int]) -> Floats:
        """The same, added up over the values of the first."""
        a, b = (self.values[axis] for axis in pair)
        return np.asarray(table.reshape(a, b, a, b, 3, 3).sum(axis=(0, 2)))

    def between(self, sums: Signs, members: Signs) -> list[Floats]:
        """Sums over runs (runs, all cells) added up by the cell of the run: for each pair of axes (cells, cells)."""
        return [members[:, block].T.astype(np.float64) @ sums[:, block].astype(np.float64) for block in self.blocks]


def _tables(measures: Floats, gap: Floats, cells: Cells) -> Iterator[list[Floats]]:
    """For each measure and pair of axes: (cell of i, cell of j, sgn Δμ, sgn Δg) ordered pairs; signs +, 0, −."""
    tree = GapTree.of(gap)
    members = np.ascontiguousarray(cells.members[tree.order])
    by_gap = cells.between(*_smaller(gap, cells.members))
    for measure in measures.T:
        dominance = Dominance(measure, tree)
        alike, opposite = (cells.between(part, members) for part in dominance.parts(members))
        by_measure = cells.between(*_smaller(measure, cells.members))
        yield list(map(_table, alike, opposite, by_measure, by_gap, cells.sizes))


def _smaller(values: Floats, members: Signs) -> tuple[Signs, Signs]:
    """For each run: how many runs of each cell have a smaller value; and the members, in the same order of runs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    sorted_members = members[order]
    return prefix_sums(sorted_members)[np.searchsorted(ordered, ordered, "left")], sorted_members


def _table(alike: Floats, opposite: Floats, by_measure: Floats, by_gap: Floats, sizes: Floats) -> Floats:
    """The nine counts of ordered pairs, from those in which the gap of i is larger and those of each order alone."""
    table = np.empty((*alike.shape, 3, 3))
    table[..., 0, 0], table[..., 2, 0] = alike, opposite
    table[..., 1, 0] = by_gap - alike - opposite
    table[..., 2, 2], table[..., 0, 2] = alike.T, opposite.T
    table[..., 1, 2] = table[..., 1, 0].T
    table[..., 0, 1] = by_measure - table[..., 0, 0] - table[..., 0, 2]
    table[..., 2, 1] = table[..., 0, 1].T
    table[..., 1, 1] = 0.0
    table[..., 1, 1] = np.outer(sizes, sizes) - np.diag(sizes) - table.sum(axis=(-2, -1))
    return table


def _information(table: Floats) -> tuple[float, float]:
    """Σ over cells of n I and of n H(gap), in nats, of counts (…, sgn Δμ, sgn Δg) with n pairs in a cell."""
    total, of_measure, of_gap = table.sum(axis=(-2, -1)), table.sum(axis=-1), table.sum(axis=-2)
    entropy = xlogy(total, total).sum() - xlogy(of_gap, of_gap).sum()
    information = entropy + xlogy(table, table).sum() - xlogy(of_measure, of_measure).sum()
    return float(information), float(entropy)


def _normalised(information: float, entropy: float) -> float:
    # The sums are of numbers far larger than their difference; what rounding leaves of 0 is no entropy.
    return max(information, 0.0) / entropy if entropy > 1e-9 else math.nan
