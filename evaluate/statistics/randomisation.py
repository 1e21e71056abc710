"""The randomisation test: does the measure rise with the corruption of the labels, everything else equal?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import BLOCK, Floats, Indices, dense_ranks, ratio, signs
from gapbench.evaluate.statistics.resampling import NO_DRAWS, Estimate, linearised

CENTRE = 0.5
"""The score of a measure that cannot tell learning from memorising."""


def randomisation_auc(measure: Floats, design: Design) -> Interval:
    """The share of twin pairs in which the measure is larger for the run with the more corrupted labels; ties count ½.

    Twins are equal in every axis and in the seed; each label noise is compared with the next one that the recipe and
    seed has a run of. A measure that is equal in twins scores ½. ``measure`` (runs,), multiplied by its declared sign:
    runs without a finite value drop out. NaN where there are no twins. The gap does not enter.
    Source: the randomisation test of Zhang et al. 2017, read as a score.
    """
    covered = np.isfinite(measure)
    return auc_estimates(measure[covered][:, None], design.take(covered))[0].interval()


def auc_estimates(measures: Floats, design: Design, drawn: NDArray[np.int64] | None = None) -> list[Estimate]:
    """The randomisation AUC of each column of measures (runs, measures), finite.

    ``drawn`` (resamples, recipes): how often each recipe is drawn, for `Estimate.resamples`: every copy of a recipe has
    its own twins.
    """
    lower, upper, twins = _twins(design)
    adjacent = _steps(design.level[:, None].astype(np.float64), twins, lower, upper)[:, 0] == 1
    lower, upper = lower[adjacent], upper[adjacent]
    wins = (1.0 + signs(dense_ranks(measures), upper, lower).astype(np.float64)) / 2
    recipe, recipes, pairs = design.recipe[lower], design.recipes, len(lower)
    counts = np.diag(np.bincount(recipe, minlength=recipes)).astype(np.float64)
    runs = len(np.union1d(lower, upper))
    pairs_drawn = NO_DRAWS if drawn is None else np.asarray(drawn @ np.diagonal(counts), np.float64)
    out = []
    for column in range(measures.shape[1]):
        auc = float(wins[:, column].mean()) if pairs else math.nan
        deviation = np.bincount(recipe, wins[:, column] - auc, minlength=recipes) / max(pairs, 1)
        resamples = NO_DRAWS
        if drawn is not None:
            won = np.bincount(recipe, wins[:, column], minlength=recipes).astype(np.float64)
            resamples = ratio(drawn @ won, pairs_drawn)
        out.append(linearised(auc, np.diag(deviation), counts, runs, sparse=False, lowest=0.0, resamples=resamples))
    return out


def auc_replicates(measures: Floats, design: Design, replicates: int, rng: np.random.Generator) -> Floats:
    """The AUC under the null that labels' corruption leaves no trace: (measures, replicates).

    Each recipe's label noises are shuffled among its runs, all seeds alike; with two levels, its twins are swapped or
    not.
    """
    lower, upper, twins = _twins(design)
    x_signs = signs(dense_ranks(measures), upper, lower)
    out = np.full((measures.shape[1], replicates), np.nan)
    columns = max(1, BLOCK // max(len(lower), len(design), 1))
    levels = np.arange(len(design.noises), dtype=np.float64)
    for at in range(0, replicates, columns):
        width = min(columns, replicates - at)
        shuffled = rng.permuted(np.tile(levels, (width, design.recipes, 1)), axis=2)
        corruption = shuffled[:, design.recipe, design.level].T
        steps = _steps(corruption, twins, lower, upper)
        y_signs = np.where(np.abs(steps) == 1, steps, 0.0)
        rises = x_signs.T.astype(np.float64) @ y_signs
        out[:, at : at + width] = (1.0 + ratio(rises, np.abs(y_signs).sum(axis=0)[None, :])) / 2
    return out


def _twins(design: Design) -> tuple[Indices, Indices, Indices]:
    """Every pair (less, more corrupted) of runs of one recipe and seed, and each run's number of recipe and seed."""
    twins = design.recipe * (int(design.replicate.max(initial=0)) + 1) + design.replicate
    order = np.lexsort([design.level, twins])
    lower, upper = [], []
    for step in range(1, len(design.noises)):
        same = twins[order[step:]] == twins[order[:-step]]
        lower.append(order[:-step][same])
        upper.append(order[step:][same])
    nothing = np.zeros(0, np.int64)
    return np.concatenate([nothing, *lower]), np.concatenate([nothing, *upper]), twins


def _steps(corruption: Floats, twins: Indices, lower: Indices, upper: Indices) -> Floats:
    """How many of the twins' own levels lie from lower to upper, signed: (pairs, columns); 1 is the next one."""
    step = np.sign(corruption[upper] - corruption[lower])
    rank = np.zeros_like(corruption)
    np.add.at(rank, upper, step / 2)
    np.add.at(rank, lower, -step / 2)
    return rank[upper] - rank[lower]
