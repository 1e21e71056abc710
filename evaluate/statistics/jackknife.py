"""The delete-a-group jackknife over recipes, for scores whose influence has no formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats

GROUPS = 20


def jackknife_intervals(
    score: Callable[[NDArray[np.bool_]], Floats],
    design: Design,
    rng: np.random.Generator,
    *,
    groups: int = GROUPS,
    lowest: float = -math.inf,
    highest: float = math.inf,
) -> list[Interval]:
    """The scores of all runs with bounds from leaving out a group of recipes at a time.

    ``score``: of the runs chosen by a mask (runs,), an array (measures,). The recipes are dealt at random into
    G = ``groups`` groups (or one each where there are fewer), whole, so that seeds and label noises travel together.
    Formula: point ± t √((G − 1)/G Σ (S_(g) − mean S_(g))²) with t on G − 1 degrees of freedom, cut at ``lowest`` and
    ``highest``. NaN bounds below three recipes, and where leaving out a group makes the score undefined.
    Source: Kott 2001, the delete-a-group jackknife.
    """
    point = score(np.ones(len(design), bool))
    present, recipe = np.unique(design.recipe, return_inverse=True)
    count = min(groups, len(present))
    if count < 3:
        return [Interval(float(value), math.nan, math.nan, len(design)) for value in point]
    group = rng.permutation(np.arange(len(present)) % count)[recipe]
    left = np.stack([score(group != one) for one in range(count)])
    error = np.sqrt((count - 1) / count * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * error
    # A NaN in any of them makes a NaN bound.
    low, high = np.maximum(point - half, lowest), np.minimum(point + half, highest)
    return [Interval(float(value), float(low[at]), float(high[at]), len(design)) for at, value in enumerate(point)]
