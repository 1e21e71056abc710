"""Spearman's rank correlation of a measure with the gap."""

from __future__ import annotations

import math

import numpy as np

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import Floats, ratio
from gapbench.evaluate.statistics.resampling import Estimate


def spearman(measure: Floats, gap: Floats, design: Design) -> Interval:
    """Spearman's rho: the correlation of the ranks, ties at their mean rank, as scipy.stats.spearmanr.

    ``measure`` and ``gap`` (runs,): runs without a finite value of both drop out. NaN for a constant measure or gap.
    Source: Spearman 1904.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    return spearman_estimates(measure[covered][:, None], gap[covered], design.take(covered))[0].interval()


def spearman_estimates(measures: Floats, gap: Floats, design: Design) -> list[Estimate]:
    """Rho of each column of measures (runs, measures), finite, with what each recipe contributes to it.

    Formula: with A_i = Σ_j sgn(μ_i − μ_j) and B_i likewise of the gap (twice the centred ranks), rho = Σ A_i B_i /
    √(Σ A_i² Σ B_i²). Its derivative by the weight of run u is that of Σ_ijk w_i w_j w_k sgn(μ_i − μ_j) sgn(g_i − g_k),
    A_u B_u + Σ_i sgn(μ_i − μ_u) B_i + Σ_i A_i sgn(g_i − g_u), and of the two norms alike; sums over signs are prefix
    sums in the sorted order. A recipe's is the sum over its runs. The bounds are those of a mean of signs
    (`score_interval`): rho is one, over triples.
    """
    runs, recipes = len(gap), len(np.unique(design.recipe))
    y = centred_ranks(gap)
    out = []
    for column in range(measures.shape[1]):
        x = centred_ranks(measures[:, column])
        xx, yy, xy = x @ x, y @ y, x @ y
        rho, influence = math.nan, np.zeros(design.recipes)
        if xx > 0 and yy > 0:
            rho = float(xy / math.sqrt(xx * yy))
            slope_xy = x * y + _signed_sums(x, y) + _signed_sums(y, x)
            slope_xx, slope_yy = x * x + 2 * _signed_sums(x, x), y * y + 2 * _signed_sums(y, y)
            by_run = slope_xy / math.sqrt(xx * yy) - rho / 2 * (slope_xx / xx + slope_yy / yy)
            influence += np.bincount(design.recipe, by_run, minlength=design.recipes)
        out.append(
            Estimate(
                point=rho,
                influence=influence,
                pair_squares=0.0,
                own_squares=0.0,
                recipes=recipes,
                comparisons=recipes,
                n=runs,
            )
        )
    return out


def spearman_replicates(measures: Floats, gaps: Floats) -> Floats:
    """Rho of each column of measures (runs, measures) with each of gaps (runs, replicates), without NaN.

    Returns: (measures, replicates).
    """
    x = np.stack([centred_ranks(column) for column in measures.T], axis=1)
    y = np.stack([centred_ranks(column) for column in gaps.T], axis=1)
    return ratio(x.T @ y, np.sqrt(np.outer((x**2).sum(axis=0), (y**2).sum(axis=0))))


def centred_ranks(values: Floats) -> Floats:
    """Twice the ranks less their mean: Σ_j sgn(value_i − value_j), whole numbers; (runs,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    ranks = (2 * below + counts - len(values)).astype(np.float64)
    return ranks[inverse]


def _signed_sums(x: Floats, other: Floats) -> Floats:
    """For each run u: Σ_i sgn(x_i − x_u) other_i, with x the centred ranks."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    totals = np.bincount(inverse, other, minlength=len(counts))
    upto = np.cumsum(totals)
    sums: Floats = upto[-1] - upto - (upto - totals)
    return sums[inverse]
