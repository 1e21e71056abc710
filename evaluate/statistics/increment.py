"""What a measure adds to a prediction of the gap from the design alone, on recipes that the fit has not seen."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit
from scipy.stats import rankdata

from gapbench.evaluate.statistics.adjusted import main_effects
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats

FOLDS = 5


def r2_increment(
    measure: Floats, gap: Floats, design: Design, rng: np.random.Generator, *, folds: int = FOLDS
) -> Interval:
    """The cross-fitted R² of the rank of the gap with the measure, less that of the design alone.

    See `r2_increments`. Runs without a finite value of both drop out.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    return r2_increments(measure[covered][:, None], gap[covered], design.take(covered), rng, folds=folds)[0]


def r2_increments(
    measures: Floats, gap: Floats, design: Design, rng: np.random.Generator, *, folds: int = FOLDS
) -> list[Interval]:
    """For each column of measures (runs, measures), finite, over the same folds.

    Formula: the recipes are dealt at random into folds; each fold's ranks of the gap are predicted by least squares on
    the others from the main effects of the axes and of the label noise, without and with the rank of the measure;
    (SSE_without − SSE_with) / SST. It is negative for a measure that adds nothing but noise. Bounds: t on recipes − 1
    degrees of freedom with the recipes' contributions, the fits taken as given, cut at 1. NaN below three recipes and
    where the gap is constant.
    """
    n = len(gap)
    present, recipe = np.unique(design.recipe, return_inverse=True)
    y = rankdata(gap) - (n + 1) / 2
    total = y @ y
    if len(present) < 3 or total == 0:
        return [Interval(math.nan, math.nan, math.nan, n)] * measures.shape[1]
    x = rankdata(measures, axis=0) - (n + 1) / 2
    fold = rng.permutation(np.arange(len(present)) % min(folds, len(present)))[recipe]
    effects = main_effects(design)
    gain = np.empty_like(x)
    for one in range(int(fold.max()) + 1):
        new, seen = fold == one, fold != one
        solve = np.linalg.pinv(effects[seen])
        of_gap, of_measures = solve @ y[seen], solve @ x[seen]
        left_y, left_x = y[seen] - effects[seen] @ of_gap, x[seen] - effects[seen] @ of_measures
        squares = (left_x**2).sum(axis=0)
        # What the design explains altogether has no slope of its own.
        own = squares > 1e-9 * np.maximum((x[seen] ** 2).sum(axis=0), 1.0)
        slope = np.divide(left_x.T @ left_y, squares, out=np.zeros(len(squares)), where=own)
        without = y[new] - effects[new] @ of_gap
        with_measure = without[:, None] - (x[new] - effects[new] @ of_measures) * slope
        gain[new] = without[:, None] ** 2 - with_measure**2
    points = gain.sum(axis=0) / total
    by_recipe = np.stack([np.bincount(recipe, column) for column in gain.T], axis=1)
    squares_of = np.bincount(recipe, y**2)
    influence = (by_recipe - points * squares_of[:, None]) / total
    recipes = len(present)
    error = np.sqrt(recipes / (recipes - 1) * (influence**2).sum(axis=0))
    half = float(stdtrit(recipes - 1, (1 + LEVEL) / 2)) * error
    return [
        Interval(float(point), float(point - width), float(min(point + width, 1.0)), n)
        for point, width in zip(points, half)
    ]
