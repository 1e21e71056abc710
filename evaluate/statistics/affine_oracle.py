"""The best affine prediction of the gap from a measure, judged by the environment that it serves worst."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.jackknife import jackknife_intervals
from gapbench.evaluate.statistics.pairs import Floats, ratio

_STEPS = 52
"""Golden-section steps; the bracket shrinks to 1e-11 of itself."""


@dataclass(frozen=True)
class AffineOracle:
    """Root of the mean squared error of g ≈ wC + b (w >= 0) in the worst environment, in units of the gap.

    ``held_out``: environments that the fit has not seen; ``constant``: the same with w = 0, what no measure achieves;
    ``in_sample``: the published version, which fits and scores on the same environments.
    """

    held_out: Interval
    constant: Interval
    in_sample: Interval


def affine_oracle(
    measure: Floats, gap: Floats, design: Design, *, rng: np.random.Generator | None = None
) -> AffineOracle:
    """How well wC + b, w >= 0, predicts the gap where it does so worst.

    An environment is all runs that have one value of one axis or label noise. The fit minimises the largest mean
    squared error over the environments, exactly (a convex problem in w and b). Held out: for each environment in turn
    the line is fitted to the runs outside it, by their environments, and scored on it; the worst is reported.
    ``measure``, multiplied by its declared sign, and ``gap`` (runs,): runs without a finite value of both drop out.
    Bounds, given ``rng``, by a jackknife over groups of recipes. NaN where no axis has two values.
    Source: Dziugaite et al. 2020, appendix (robust regression), with held-out environments added.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    x, y, kept = measure[covered][:, None], gap[covered], design.take(covered)

    def score(rows: NDArray[np.bool_]) -> Floats:
        return affine_oracles(x[rows], y[rows], kept.take(rows))[:, 0]

    if rng is None:
        found = [Interval(float(value), math.nan, math.nan, len(y)) for value in score(np.ones(len(y), bool))]
    else:
        found = jackknife_intervals(score, kept, rng, lowest=0.0)
    return AffineOracle(*found)


def affine_oracles(measures: Floats, gap: Floats, design: Design) -> Floats:
    """held_out, constant and in_sample of each column of measures (runs, measures), finite: (3, measures)."""
    members = [
        codes == value
        for codes in (*design.codes.T, design.level)
        if len(np.unique(codes)) > 1
        for value in np.unique(codes)
    ]
    if not members:
        return np.full((3, measures.shape[1]), np.nan)
    masks = np.stack(members)
    held_out, constant = np.zeros((2, measures.shape[1]))
    for one in masks:
        outside = ~one
        within = masks[:, outside]
        fit_x, fit_y = measures[outside], gap[outside]
        slope, intercept = robust_line(fit_x, fit_y, within)
        flat = robust_line(np.zeros((len(fit_y), 1)), fit_y, within)[1]
        errors = gap[one][:, None] - slope * measures[one] - intercept
        held_out = np.maximum(held_out, np.sqrt((errors**2).mean(axis=0)))
        constant = np.maximum(constant, math.sqrt(float(((gap[one] - flat) ** 2).mean())))
    slope, intercept = robust_line(measures, gap, masks)
    squares = (gap[:, None] - slope * measures - intercept) ** 2
    worst = np.max([squares[one].mean(axis=0) for one in masks], axis=0)
    return np.stack([held_out, constant, np.sqrt(worst)])


def robust_line(measures: Floats, gap: Floats, environments: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Slope w >= 0 and intercept that minimise the largest mean squared error over environments: two (measures,).

    ``measures`` (runs, measures), ``gap`` (runs,), ``environments`` (environments, runs), of which empty ones do not
    count. A constant measure has slope 0.
    """
    share = environments[environments.any(axis=1)].astype(np.float64)
    share /= share.sum(axis=1, keepdims=True)
    # In units of its own spread, no measure is too large or too small for the search.
    base = measures.mean(axis=0)
    spread = np.abs(measures - base).max(axis=0)
    x = ratio(measures - base, spread[None, :])
    x[:, spread == 0] = 0.0
    centre = float(gap.mean())
    y = gap - centre
    first, second = np.triu_indices(len(share))
    mean_x, mean_y = (share @ x).T, share @ y
    xx, xy, yy = (share @ x**2).T, (share @ (x * y[:, None])).T, share @ y**2

    def over_intercepts(slope: Floats) -> tuple[Floats, Floats]:
        """The least largest error for these slopes (measures,), and the intercept that has it.

        An error is a parabola (b − c)² + v in the intercept, and the least of the largest is that of some two of them.
        """
        c = mean_y - slope[:, None] * mean_x
        v = yy - 2 * slope[:, None] * xy + slope[:, None] ** 2 * xx - c**2
        apart = c[:, first] - c[:, second]
        # Where the two cross, or at the lowest point of one that is above the other there.
        away = ratio(v[:, first] - v[:, second], apart**2)
        away = np.clip(np.where(apart == 0, 1.0, np.nan_to_num(away)), -1.0, 1.0)
        intercepts = (c[:, first] + c[:, second]) / 2 + away * apart / 2
        errors = np.maximum(
            (intercepts - c[:, first]) ** 2 + v[:, first], (intercepts - c[:, second]) ** 2 + v[:, second]
        )
        decisive = np.argmax(errors, axis=1)[:, None]
        least, at = (np.take_along_axis(values, decisive, axis=1)[:, 0] for values in (errors, intercepts))
        return least, at

    deviation = np.sqrt(np.maximum(xx - mean_x**2, 0.0))
    start = np.sqrt(over_intercepts(np.zeros(x.shape[1]))[0])
    # An environment's error is at least (w sd x − sd y)²: a larger slope would be worse than none.
    limits = ratio(start[:, None] + np.sqrt(np.maximum(yy - mean_y**2, 0.0)), deviation)
    within = np.where(deviation > 1e-9, limits, np.inf).min(axis=1)
    # Where a measure is constant in every environment, the distance between two of them limits the slope.
    between = ratio(2 * start + np.ptp(mean_y), np.ptp(mean_x, axis=1))
    limit = np.where(np.isinf(within), np.nan_to_num(between, nan=0.0), within)
    low, high, shrink = np.zeros(x.shape[1]), limit, (math.sqrt(5) - 1) / 2
    for _ in range(_STEPS):
        left, right = high - shrink * (high - low), low + shrink * (high - low)
        falls = over_intercepts(left)[0] > over_intercepts(right)[0]
        low, high = np.where(falls, left, low), np.where(falls, high, right)
    slope = (low + high) / 2
    intercept = over_intercepts(slope)[1]
    scaled = np.where(spread > 0, slope / np.where(spread > 0, spread, 1.0), 0.0)
    return scaled, intercept + centre - scaled * base
