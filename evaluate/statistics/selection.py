"""What it costs to choose a network by a measure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.jackknife import jackknife_intervals
from gapbench.evaluate.statistics.pairs import Floats, Indices, settled, significant


@dataclass(frozen=True)
class SelectionRegret:
    """In units of the test error, averaged over the sets of runs to choose from: how much worse the chosen run is than
    the best, how much worse a random choice is than the chosen (negative: chance is better), and how many sets.
    """

    regret: Interval
    better_than_random: Interval
    sets: int


def selection_regret(
    measure: Floats,
    train_error: Floats,
    test_error: Floats,
    design: Design,
    *,
    task: Indices | None = None,
    rng: np.random.Generator | None = None,
) -> SelectionRegret:
    """Among runs of equal training error on the same task, choose the one of the smallest measure.

    Formula: regret = test error of the chosen − least test error; better_than_random = mean test error − that of the
    chosen. A set holds the runs of one ``task`` (runs,; by default the label noise) and one training error; sets of one
    run are left out, and each counts by its number of runs. Among runs tied for the smallest measure each is as likely.
    ``measure`` multiplied by its declared sign. Runs without a finite value of all drop out. Bounds, given ``rng``, by
    a jackknife over groups of recipes. NaN where there is no set.
    """
    covered = np.isfinite(measure) & np.isfinite(train_error) & np.isfinite(test_error)
    kept = design.take(covered)
    tasks = kept.level if task is None else np.asarray(task)[covered]
    _, level = np.unique(settled(train_error[covered], 9), return_inverse=True)
    sets = np.unique(np.stack([tasks, level]), axis=1, return_inverse=True)[1].reshape(-1)
    x, error = significant(measure[covered]), test_error[covered]

    def score(rows: np.ndarray) -> Floats:
        return _chosen(x[rows], error[rows], sets[rows])

    if rng is None:
        found = [Interval(float(value), math.nan, math.nan, len(x)) for value in score(np.ones(len(x), bool))]
    else:
        found = jackknife_intervals(score, kept, rng)
        # No choice is better than the best.
        found[0] = replace(found[0], low=float(np.maximum(found[0].low, 0.0)))
    return SelectionRegret(found[0], found[1], int((np.bincount(sets) > 1).sum()) if len(sets) else 0)


def _chosen(measure: Floats, error: Floats, sets: Indices) -> Floats:
    """Mean over the sets of regret, and of the random choice's error less the chosen's: (2,)."""
    order = np.lexsort([measure, sets])
    x, y = measure[order], error[order]
    starts = np.flatnonzero(np.diff(sets[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    counted = sizes > 1
    if not counted.any():
        return np.full(2, np.nan)
    smallest = (x == np.repeat(x[starts], sizes)).astype(np.float64)
    chosen = np.add.reduceat(smallest * y, starts) / np.add.reduceat(smallest, starts)
    best, mean = np.minimum.reduceat(y, starts), np.add.reduceat(y, starts) / sizes
    weights = np.where(counted, sizes, 0)
    return np.array([np.average(chosen - best, weights=weights), np.average(mean - chosen, weights=weights)])
