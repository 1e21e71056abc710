"""Quantiles of dependent values, with bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import stdtrit

from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.resampling import Estimate


def quantile_interval(values: Floats, level: float, share: Callable[[Floats], Estimate], n: int) -> Interval:
    """The quantile of values (units,) at this level, with Woodruff's 95 % bounds.

    ``share`` estimates the mean of an indicator (units,). Formula: with s the standard error of the share of values at
    most the quantile, the bounds are the quantiles at level ± t s, with t on recipes − 1 degrees of freedom.
    Source: Woodruff 1952.
    """
    if len(values) == 0:
        return Interval(math.nan, math.nan, math.nan, n)
    point = float(np.quantile(values, level))
    found = share((values <= point).astype(np.float64))
    if math.isnan(found.variance):
        return Interval(point, math.nan, math.nan, n)
    half = float(stdtrit(found.recipes - 1, (1 + LEVEL) / 2)) * math.sqrt(found.variance)
    low, high = (float(np.quantile(values, min(max(level + shift, 0.0), 1.0))) for shift in (-half, half))
    return Interval(point, low, high, n)
