"""The least-squares line of the target on a measure: how well the measure predicts, not only ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats


@dataclass(frozen=True)
class Line:
    """target = intercept + slope · measure: the coefficients, R² and the root of the mean squared residual."""

    intercept: Interval
    slope: Interval
    r2: Interval
    rmse: Interval


def least_squares_line(measure: Floats, target: Floats, design: Design) -> Line:
    """The line of least squared residuals, R² = 1 − SSR / SST and rmse = √(SSR / n) (no degrees of freedom taken off).

    ``measure`` and ``target`` (runs,): runs without a finite value of both drop out. For a constant measure the line is
    flat at the mean (R² 0), and its coefficients are not determined: NaN. R² is NaN for a constant target, everything
    below two runs.
    Bounds, from three configurations on: a t quantile times cluster-robust errors of the coefficients (CR1); for R²
    those of the correlation, by Fisher's z of its linearised variance over configurations, squared; for the rmse those
    of its logarithm. They are NaN for a line without residuals.
    Source: for the robust errors Liang & Zeger 1986.
    """
    covered = np.isfinite(measure) & np.isfinite(target)
    x, y, recipe = measure[covered], target[covered], design.recipe[covered]
    n = len(x)
    if n < 2:
        return Line(*(Interval(math.nan, math.nan, math.nan, n) for _ in range(4)))
    spread, centre = float(np.max(np.abs(x - x[0]))), float(x.mean())
    if spread == 0.0 or not np.any(y != y[0]):
        return _without_slope(y, spread, centre, n)
    # In units of its own spread the measure's squares neither overflow nor vanish.
    u = (x - centre) / spread
    u -= u.mean()
    v = y - y.mean()
    uu, vv = float(u @ u), float(v @ v)
    slope = float(u @ v) / uu
    residuals = v - slope * u
    ssr = float(residuals @ residuals)
    if ssr < (64 * np.finfo(np.float64).eps) ** 2 * vv:
        ssr = 0.0  # rounding is no residual: two models always lie on a line
    intercept = float(y.mean()) - slope * centre / spread

    groups = np.unique(recipe, return_inverse=True)[1]
    clusters = int(groups.max()) + 1

    def variance(influence: Floats) -> float:
        """Of a quantity with this influence of each run, over clusters; CR1."""
        if clusters < 3:
            return math.nan
        sums = np.bincount(groups, influence, minlength=clusters)
        return float(sums @ sums) * clusters / (clusters - 1) * (n - 1) / max(n - 2, 1)

    t = float(stdtrit(clusters - 1, (1 + LEVEL) / 2)) if clusters > 2 else math.nan
    slope_influence = u * residuals / uu
    slope_error = math.sqrt(variance(slope_influence)) if ssr > 0 else math.nan
    intercept_error = math.sqrt(variance(residuals / n - slope_influence * centre / spread)) if ssr > 0 else math.nan
    r2, rmse = 1.0 - ssr / vv, math.sqrt(ssr / n)
    r = float(u @ v) / math.sqrt(uu * vv)
    standard_u, standard_v = u / math.sqrt(uu / n), v / math.sqrt(vv / n)
    r_variance = variance((standard_u * standard_v - r * (standard_u**2 + standard_v**2) / 2) / n)
    log_rmse_variance = variance((residuals**2 * n / ssr - 1) / (2 * n)) if ssr > 0 else math.nan
    return Line(
        intercept=_around(intercept, t * intercept_error, n),
        slope=_around(slope / spread, t * slope_error / spread, n),
        r2=_squared(r, r2, t * math.sqrt(r_variance), n),
        rmse=_times(rmse, t * math.sqrt(log_rmse_variance), n),
    )


def _without_slope(y: Floats, spread: float, centre: float, n: int) -> Line:
    """Where the measure or the target is constant."""
    undefined = Interval(math.nan, math.nan, math.nan, n)
    mean = float(y.mean())
    varies = bool(np.any(y != y[0]))
    rmse = Interval(float(y.std()) if varies else 0.0, math.nan, math.nan, n)
    if spread == 0.0:
        return Line(undefined, undefined, Interval(0.0, math.nan, math.nan, n) if varies else undefined, rmse)
    return Line(Interval(mean, math.nan, math.nan, n), Interval(0.0, math.nan, math.nan, n), undefined, rmse)


def _around(point: float, half: float, n: int) -> Interval:
    return Interval(point, point - half, point + half, n)


def _times(point: float, half: float, n: int) -> Interval:
    if math.isnan(half) or half > 700:
        return Interval(point, math.nan, math.nan, n)
    return Interval(point, point / math.exp(half), point * math.exp(half), n)


def _squared(r: float, r2: float, half: float, n: int) -> Interval:
    """R² with bounds from Fisher's z of r."""
    if math.isnan(half) or 1.0 - r * r < 1e-12:
        return Interval(r2, math.nan, math.nan, n)
    z, width = math.atanh(r), half / (1.0 - r * r)
    ends = math.tanh(z - width), math.tanh(z + width)
    low = 0.0 if ends[0] < 0.0 < ends[1] else min(ends[0] ** 2, ends[1] ** 2)
    return Interval(r2, low, max(ends[0] ** 2, ends[1] ** 2), n)
