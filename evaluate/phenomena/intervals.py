"""95 % intervals over seeds: of means, geometric means, shares, slopes, and of a bump that was not chosen on itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy
import pandas
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from scipy.stats import spearmanr

from gapbench.evaluate.statistics.interval import LEVEL, Interval

Floats = NDArray[numpy.float64]


def mean_interval(values: ArrayLike) -> Interval:
    """The mean with Student's interval, m ± t s/√n on n − 1 degrees of freedom; missing values drop out.

    Bounds are NaN below two values. Values that are all equal have an interval without width.
    """
    x = numpy.asarray(values, dtype=float)
    x = x[numpy.isfinite(x)]
    if len(x) < 2:
        return Interval(float(x[0]) if len(x) else math.nan, math.nan, math.nan, len(x))
    half = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))


def geometric_mean_interval(values: ArrayLike) -> Interval:
    """exp of `mean_interval` of the logarithms: for ratios, which are symmetric only in the logarithm.

    Raises: ValueError where a value is not positive.
    """
    x = numpy.asarray(values, dtype=float)
    if (x <= 0).any():
        raise ValueError(f"a geometric mean needs positive values, not {x.min():g}")
    of_logs = mean_interval(numpy.log(x))
    return Interval(math.exp(of_logs.point), math.exp(of_logs.low), math.exp(of_logs.high), of_logs.n)


def share_interval(successes: int, trials: int) -> Interval:
    """A share with Wilson's interval, (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.96 (Wilson 1927)."""
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    z, p = 1.959963984540054, successes / trials
    centre, half = p + z * z / (2 * trials), z * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2)
    scale = 1 + z * z / trials
    # The exact bounds at no success and at no failure are 0 and 1; rounding must not move them.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return Interval(p, low, high, trials)


def log_slope(x: ArrayLike, y: ArrayLike) -> float:
    """The exponent b of the least-squares power law y = a x^b; NaN where fewer than two points are positive."""
    a, b = numpy.asarray(x, dtype=float), numpy.asarray(y, dtype=float)
    kept = (a > 0) & (b > 0)
    if kept.sum() < 2 or numpy.ptp(a[kept]) == 0:
        return math.nan
    return float(numpy.polyfit(numpy.log(a[kept]), numpy.log(b[kept]), 1)[0])


def slope_interval(table: pandas.DataFrame, x: str, y: str, unit: str = "seed") -> Interval:
    """The mean over units (seeds) of the exponent of y in x, each fitted to one unit's rows."""
    return mean_interval([log_slope(rows[x], rows[y]) for _, rows in table.groupby(unit)])


def spearman_interval(table: pandas.DataFrame, x: str, y: str, unit: Sequence[str] | str = "seed") -> Interval:
    """The mean over units (seeds) of Spearman's rho between two columns, each in one unit's rows, kept in [−1, 1]."""
    found = []
    for _, rows in table.groupby(list(unit) if not isinstance(unit, str) else unit):
        pair = rows[[x, y]].apply(pandas.to_numeric).dropna()
        if len(pair) >= 4 and pair[x].nunique() > 1 and pair[y].nunique() > 1:
            found.append(float(spearmanr(pair[x], pair[y]).statistic))
    interval = mean_interval(found)
    return Interval(interval.point, max(interval.low, -1.0), min(interval.high, 1.0), interval.n)


def curves(table: pandas.DataFrame, x: str, y: str, unit: str = "seed") -> tuple[Floats, Floats]:
    """The places along x (m,) and the values of y there, a row a unit: (units, m)."""
    wide = table.pivot_table(index=unit, columns=x, values=y, aggfunc="mean").sort_index(axis=1)
    return wide.columns.to_numpy(dtype=float), wide.to_numpy(dtype=float)


def bump(values: Floats) -> tuple[Interval, Interval]:
    """How far curves rise from a valley to a later peak, and fall from that peak to a later place: (rise, fall).

    ``values`` (units, m): a curve a unit. Valley, peak and end are chosen for the largest min(rise, fall) of the mean
    of all other units, and the unit's own rise and fall between these places are taken: a choice that fits noise then
    earns nothing, and monotone curves with noise have rises about 0.
    """
    units = len(values)
    rises, falls = [], []
    for unit in range(units):
        others = numpy.delete(values, unit, axis=0).mean(axis=0) if units > 1 else values[0]
        valley, peak, end = _places(others)
        rises.append(values[unit, peak] - values[unit, valley])
        falls.append(values[unit, peak] - values[unit, end])
    return mean_interval(rises), mean_interval(falls)


def _places(curve: Floats) -> tuple[int, int, int]:
    if len(curve) < 3:
        raise ValueError(f"a curve with a bump has at least three places, not {len(curve)}")
    best, found = -math.inf, (0, 1, 2)
    for peak in range(1, len(curve) - 1):
        valley = int(numpy.argmin(curve[:peak]))
        end = peak + 1 + int(numpy.argmin(curve[peak + 1 :]))
        height = min(curve[peak] - curve[valley], curve[peak] - curve[end])
        if height > best:
            best, found = height, (valley, peak, end)
    return found


def peak_interval(places: Floats, values: Floats, generator: numpy.random.Generator, resamples: int = 1000) -> Interval:
    """Where the mean curve is largest, with the percentile interval of the bootstrap over units.

    ``places`` (m,), ``values`` (units, m), finite.
    """
    units = len(values)
    weights = generator.multinomial(units, numpy.full(units, 1 / units), size=resamples) / units
    found = places[(weights @ values).argmax(axis=1)]
    low, high = numpy.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(places[values.mean(axis=0).argmax()]), float(low), float(high), units)
