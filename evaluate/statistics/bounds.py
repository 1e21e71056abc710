"""Bounds on the error gap: did they hold, and did they say anything?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.quantile import quantile_interval
from gapbench.evaluate.statistics.resampling import Estimate, linearised


@dataclass(frozen=True)
class BoundReport:
    """Of a bound on the error gap: the share of runs where it held, the share where it is below 1 (an error gap never
    exceeds 1), and the median of bound / gap over the runs whose gap is positive (``ratio.n`` of them).
    """

    held: Interval
    below_one: Interval
    ratio: Interval


def bound_report(bound: Floats, gap: Floats, design: Design) -> BoundReport:
    """How a claimed upper bound on the error gap fared.

    It held where bound ≥ gap. ``bound`` and ``gap`` (runs,), fractions, the bound without its declared sign: runs
    without a finite value of both drop out. Intervals over recipes: Wilson's for the shares, Woodruff's for the median.
    """
    covered = np.isfinite(bound) & np.isfinite(gap)
    value, true, kept = bound[covered], gap[covered], design.take(covered)
    positive = true > 0
    ratios, of_positive = value[positive] / true[positive], kept.take(positive)
    return BoundReport(
        held=share((value >= true).astype(np.float64), kept).interval(),
        below_one=share((value < 1.0).astype(np.float64), kept).interval(),
        ratio=quantile_interval(ratios, 0.5, lambda below: share(below, of_positive), len(ratios)),
    )


def share(indicator: Floats, design: Design) -> Estimate:
    """The mean of an indicator (runs,) with what each recipe contributes to it."""
    n = len(indicator)
    mean = float(indicator.mean()) if n else math.nan
    deviation = np.bincount(design.recipe, indicator - mean, minlength=design.recipes) / max(n, 1)
    counts = np.bincount(design.recipe, minlength=design.recipes).astype(np.float64)
    return linearised(mean, np.diag(deviation), np.diag(counts), n, sparse=False, lowest=0.0)
