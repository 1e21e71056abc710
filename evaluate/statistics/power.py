"""What a zoo can see: the smallest score that its permutation test would find."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtri

from gapbench.evaluate.statistics.pairs import Floats

POWER = 0.8


def smallest_detectable(permuted_scores: Floats, centre: float = 0.0, *, power: float = POWER) -> float:
    """The distance from the null's centre that the two-sided 5 % permutation test finds with this power.

    Formula: q + z σ with q the 95 % quantile of |T* − c| and σ the standard deviation of the permuted scores T*, z the
    normal quantile of ``power``. A score varies less the farther it lies from the centre, so that this is on the safe
    side. ``permuted_scores`` (permutations,): NaN left out. NaN where there are fewer than twenty.
    """
    scores = permuted_scores[~np.isnan(permuted_scores)] - centre
    if len(scores) < 20:
        return math.nan
    return float(np.quantile(np.abs(scores), 0.95) + ndtri(power) * scores.std())
