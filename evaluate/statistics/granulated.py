"""Granulated Kendall correlation: one axis varies, everything else is fixed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design, rows_as_codes
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import (
    BLOCK,
    Floats,
    Indices,
    by_recipe_pair,
    ratio,
    settled,
    significant,
    signs,
)
from gapbench.evaluate.statistics.resampling import Estimate, linearised

Seeds = Literal["averaged", "fixed"]


@dataclass(frozen=True)
class CellCounts:
    """How many cells an axis has: ``counted``; left out for a ``single`` value or a ``constant_gap``."""

    counted: int
    single: int
    constant_gap: int


@dataclass(frozen=True)
class Granulated:
    """Psi, the mean over axes; psi of each axis (NaN where no cell counts); and the axis's cells."""

    mean: Interval
    by_axis: Mapping[str, Interval]
    cells: Mapping[str, CellCounts]


def granulated_tau(measure: Floats, gap: Floats, design: Design, *, seeds: Seeds = "averaged") -> Granulated:
    """Granulated tau: psi_i = mean over cells of tau_a over the values of axis i, Psi = mean of psi over the axes.

    A cell of axis i holds the configurations that are equal in every other hyper-parameter and in the label noise; the
    label noise is never the varied axis. With ``seeds="averaged"`` the measure and the gap of a configuration are first
    averaged over its seeds (over the runs that have the measure); with "fixed" a cell also holds the seed.
    Cells where the measure is constant count 0. Cells with one value are skipped, and cells with a constant gap are
    left out, for they order nothing (label noise 1: the error under the training law is (C − 1)/C for every network,
    so with no training error every gap is the same); both are counted. A grid need not be complete. An axis without a
    cell that counts has psi NaN and is left out of the mean.
    ``measure`` and ``gap`` (runs,): runs without a finite value of both drop out.
    Source: Jiang et al. 2020, section 2.2.1.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    comparisons = CellPairs.of(design.take(covered), gap[covered], seeds)
    estimates = granulated_estimates(measure[covered][:, None], gap[covered], comparisons)[0]
    by_axis = {axis: estimates[axis].interval() for axis in design.axes}
    return Granulated(estimates[PSI].interval(), by_axis, comparisons.counts)


PSI = ""
"""The key of the mean over axes, beside the names of the axes."""


@dataclass(frozen=True)
class CellPairs:
    """The comparisons of granulated tau: pairs of units (configurations, or runs), by cell, cells by axis.

    ``first``, ``second`` (pairs,) index units; ``start`` (cells,) is where each cell's pairs begin; ``axis`` (cells,).
    ``order`` and ``starts`` gather the runs of each unit. Only ``counts`` depends on the gap; the comparisons include
    those of constant gap, which are left out when a score is taken (a permutation of the gap has others).
    """

    axes: tuple[str, ...]
    order: Indices
    starts: Indices
    unit_recipe: Indices
    first: Indices
    second: Indices
    start: Indices
    axis: Indices
    counts: Mapping[str, CellCounts]
    runs: int
    recipes: int

    @classmethod
    def of(cls, design: Design, gap: Floats, seeds: Seeds = "averaged") -> CellPairs:
        """The comparisons of these runs; none where there is no axis or no run."""
        fixed = [design.level] if seeds == "averaged" else [design.level, design.seed]
        columns = np.column_stack([design.codes, *fixed])
        unit = rows_as_codes(columns)
        order = np.argsort(unit, kind="stable")
        starts = np.unique(unit[order], return_index=True)[1]
        points = columns[order][starts]
        y = settled(averaged(gap[:, None], order, starts))[:, 0]
        pairs, sizes, axis_of_cell = [], [], []
        counts = {}
        for axis, name in enumerate(design.axes):
            cell = rows_as_codes(np.delete(points, axis, axis=1))
            members = np.argsort(cell, kind="stable")
            size = np.bincount(cell)
            constant = 0
            for k in np.unique(size[size > 1]):
                rows = members[np.isin(cell[members], np.flatnonzero(size == k))].reshape(-1, k)
                constant += int((np.ptp(y[rows], axis=1) == 0).sum())
                a, b = np.triu_indices(k, 1)
                pairs.append(np.stack([rows[:, a].reshape(-1), rows[:, b].reshape(-1)]))
                sizes.append(np.full(len(rows), len(a)))
                axis_of_cell.append(np.full(len(rows), axis))
            counts[name] = CellCounts(int((size > 1).sum()) - constant, int((size == 1).sum()), constant)
        joined = np.concatenate([np.zeros((2, 0), np.int64), *pairs], axis=1)
        lengths = np.concatenate([np.zeros(0, np.int64), *sizes])
        return cls(
            axes=design.axes,
            order=order,
            starts=starts,
            unit_recipe=design.recipe[order][starts],
            first=joined[0],
            second=joined[1],
            start=np.cumsum(lengths) - lengths,
            axis=np.concatenate([np.zeros(0, np.int64), *axis_of_cell]),
            counts=counts,
            runs=len(design),
            recipes=design.recipes,
        )

    def axis_slices(self) -> list[slice]:
        """The pairs of each axis, which stand together."""
        of_pair = np.repeat(self.axis, np.diff(self.start, append=len(self.first)))
        bounds = np.searchsorted(of_pair, np.arange(len(self.axes) + 1))
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]

    def unit_values(self, values: Floats) -> Floats:
        """Values (runs, columns) averaged over the runs of each unit; NaN where all are NaN."""
        return averaged(values, self.order, self.starts)


def averaged(values: Floats, order: Indices, starts: Indices) -> Floats:
    """Means of groups of rows, NaN left out: (rows, columns) -> (groups, columns).

    Formula: minimum + mean(value − minimum), so that equal values have exactly that mean however many they are.
    """
    if len(order) == 0:
        return np.zeros((0, values.shape[1]))
    values = values[order]
    base = np.fmin.reduceat(values, starts, axis=0)
    excess = values - np.repeat(base, np.diff(starts, append=len(order)), axis=0)
    missing = np.isnan(excess)
    total = np.add.reduceat(np.where(missing, 0.0, excess), starts, axis=0)
    return base + ratio(total, np.add.reduceat(1.0 - missing, starts, axis=0))


def granulated_estimates(
    measures: Floats, gap: Floats, comparisons: CellPairs, drawn: NDArray[np.int64] | None = None
) -> list[dict[str, Estimate]]:
    """For each column of measures (runs, measures), finite: psi of each axis, and their mean under `PSI`.

    ``drawn`` (resamples, recipes): how often each recipe is drawn, for `Estimate.resamples`. Every copy of a recipe is
    compared with every copy of another in the cell, each comparison with the share that it has in the zoo: psi is
    Σ share sgn Δμ sgn Δg / Σ share over the drawn comparisons. Copies of one recipe have the same value of the axis and
    are not compared.
    """
    y_signs = signs(settled(comparisons.unit_values(gap[:, None])), comparisons.first, comparisons.second)
    shares = _cell_shares(y_signs, np.ones_like(y_signs), comparisons)[:, 0]
    products = signs(significant(comparisons.unit_values(measures)), comparisons.first, comparisons.second) * y_signs
    found = [_one_measure(products[:, column], shares, comparisons) for column in range(measures.shape[1])]
    if drawn is None:
        return found
    resamples = _resampled(products, shares, comparisons, drawn)
    return [
        {name: replace(estimate, resamples=resamples[name][column]) for name, estimate in by_axis.items()}
        for column, by_axis in enumerate(found)
    ]


def _resampled(products: Floats, shares: Floats, comparisons: CellPairs, drawn: NDArray[np.int64]) -> dict[str, Floats]:
    """psi of each axis, and their mean, in each resample: (measures, resamples)."""
    first, second = comparisons.unit_recipe[comparisons.first], comparisons.unit_recipe[comparisons.second]
    out = {}
    for name, pairs in zip(comparisons.axes, comparisons.axis_slices()):
        a, b, share = first[pairs], second[pairs], shares[pairs]
        summed, total = np.zeros((products.shape[1], len(drawn))), np.zeros(len(drawn))
        size = max(1, BLOCK // max(len(a), 1))
        for block in (slice(at, at + size) for at in range(0, len(drawn), size)):
            times = (drawn[block, a] * drawn[block, b]).astype(np.float64)
            summed[:, block] = (times @ (share[:, None] * products[pairs])).T
            total[block] = times @ share
        out[name] = ratio(summed, total[None, :])
    psis = np.stack([*out.values(), np.full((products.shape[1], len(drawn)), np.nan)])
    axes = (~np.isnan(psis)).sum(axis=0).astype(np.float64)
    return {**out, PSI: ratio(np.nansum(psis, axis=0), axes)}


def _one_measure(products: Floats, shares: Floats, comparisons: CellPairs) -> dict[str, Estimate]:
    nothing = np.zeros((comparisons.recipes, comparisons.recipes))
    recipe_a, recipe_b = comparisons.unit_recipe[comparisons.first], comparisons.unit_recipe[comparisons.second]
    estimates, parts = {}, []
    for name, pairs in zip(comparisons.axes, comparisons.axis_slices()):
        share, a, b = shares[pairs], recipe_a[pairs], recipe_b[pairs]
        if not share.any():
            estimates[name] = linearised(math.nan, nothing, nothing, 0, sparse=True)
            continue
        share = share / share.sum()
        psi = float(share @ products[pairs])
        deviation = by_recipe_pair(a, b, share * (products[pairs] - psi), comparisons.recipes)
        counts = by_recipe_pair(a, b, (share > 0).astype(np.float64), comparisons.recipes)
        estimates[name] = linearised(psi, deviation, counts, comparisons.runs, sparse=True)
        parts.append((psi, deviation, counts))
    if parts:
        psis, deviations, counted = zip(*parts)
        mean = linearised(
            float(np.mean(psis)), np.mean(deviations, axis=0), np.sum(counted, axis=0), comparisons.runs, sparse=True
        )
    else:
        mean = linearised(math.nan, nothing, nothing, 0, sparse=True)
    return {**estimates, PSI: mean}


def granulated_replicates(measures: Floats, gaps: Floats, comparisons: CellPairs) -> Floats:
    """Psi of each column of measures (runs, measures) with each of gaps (runs, replicates), which may have NaN.

    Returns: (measures, replicates), by the rules of `granulated_tau` for each gap.
    """
    x_signs = signs(significant(comparisons.unit_values(measures)), comparisons.first, comparisons.second)
    out = np.full((measures.shape[1], gaps.shape[1]), np.nan)
    columns = max(1, BLOCK // max(len(comparisons.first), 1))
    for at in range(0, gaps.shape[1], columns):
        y = settled(comparisons.unit_values(gaps[:, at : at + columns]))
        y_signs = signs(y, comparisons.first, comparisons.second)
        shares = _cell_shares(y_signs, 1.0 - np.isnan(y[comparisons.first] + y[comparisons.second]), comparisons)
        psis = [
            ratio(x_signs[pairs].T @ (y_signs[pairs] * shares[pairs]), shares[pairs].sum(axis=0)[None, :])
            for pairs in comparisons.axis_slices()
        ]
        if psis:
            stacked = np.stack(psis)
            axes = (~np.isnan(stacked)).sum(axis=0).astype(np.float64)
            out[:, at : at + columns] = ratio(np.nansum(stacked, axis=0), axes)
    return out


def _cell_shares(y_signs: Floats, valid: Floats, comparisons: CellPairs) -> Floats:
    """One over the number of valid pairs of the pair's cell; 0 in cells where the gap is constant: (pairs, columns)."""
    if len(comparisons.start) == 0:
        return np.zeros_like(y_signs)
    varies = np.maximum.reduceat(np.abs(y_signs), comparisons.start, axis=0)
    share = ratio(varies, np.add.reduceat(valid, comparisons.start, axis=0))
    share = np.nan_to_num(share, nan=0.0)
    return np.repeat(share, np.diff(comparisons.start, append=len(comparisons.first)), axis=0) * valid
