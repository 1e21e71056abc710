"""A measure's association with the gap beyond what the design explains: regression of ranks."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from scipy.special import stdtrit
from scipy.stats import rankdata

from gapbench.evaluate.statistics.design import Design, rows_as_codes
from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.random_intercept import random_intercept

_NOTHING_LEFT = 1e-9
"""The share of a variable's variance below which the design explains all of it."""


def partial_correlation(measure: Floats, gap: Floats, design: Design) -> Interval:
    """The correlation of the ranks of measure and gap, given the axes and the label noise.

    Formula: rank gap = β rank measure + main effects of every axis and of the label noise, least squares; the partial
    correlation is β times the ratio of the residual standard deviations of measure and gap given the design. Bounds:
    those of β with errors robust to dependence within recipes, t on recipes − 1 degrees of freedom, cut at ±1.
    ``measure`` and ``gap`` (runs,): runs without a finite value of both drop out. NaN where the design explains the
    measure or the gap altogether, and below three recipes.
    Source: Yule 1907 (Frisch & Waugh 1933); statsmodels' OLS with clustered covariance.
    """
    from statsmodels.regression.linear_model import OLS

    x, y, kept = _ranks(measure, gap, design)
    n = len(x)
    undefined = Interval(math.nan, math.nan, math.nan, n)
    effects = main_effects(kept)
    if n <= effects.shape[1] + 1 or len(np.unique(kept.recipe)) < 3:
        return undefined
    left_x, left_y = (values - effects @ np.linalg.lstsq(effects, values)[0] for values in (x, y))
    if _explained(left_x, x) or _explained(left_y, y):
        return undefined
    fit = OLS(y, np.column_stack([x, effects])).fit(
        cov_type="cluster", cov_kwds={"groups": np.unique(kept.recipe, return_inverse=True)[1]}, use_t=True
    )
    scale = math.sqrt(float(left_x @ left_x) / float(left_y @ left_y))
    low, high = (float(np.clip(end * scale, -1.0, 1.0)) for end in fit.conf_int()[0])
    return Interval(float(fit.params[0]) * scale, low, high, n)


def mixed_model(measure: Floats, gap: Floats, design: Design) -> Interval:
    """How many standard deviations the rank of the gap rises with one of the rank of the measure, by a mixed model.

    Formula: rank gap = β rank measure + main effects of every axis and of the label noise + a random effect of the
    configuration + noise of the run, by restricted maximum likelihood; both ranks are standardised. Bounds: t on
    configurations − 1 degrees of freedom. Runs without a finite value of both drop out. NaN where no configuration has
    two runs, where the design explains the measure, or nothing is left to explain.
    Source: Laird & Ware 1982 (`random_intercept`).
    """
    x, y, kept = _ranks(measure, gap, design)
    n = len(x)
    undefined = Interval(math.nan, math.nan, math.nan, n)
    configuration = rows_as_codes(np.stack([kept.recipe, kept.level], axis=1))
    groups = int(configuration.max(initial=-1)) + 1
    effects = main_effects(kept)
    if groups < 3 or groups == n or n <= effects.shape[1] + 1:
        return undefined
    left = x - effects @ np.linalg.lstsq(effects, x)[0]
    if _explained(left, x) or np.ptp(y) == 0:
        return undefined
    x, y = (values / values.std() for values in (x, y))
    try:
        fit = random_intercept(y, np.column_stack([x, effects]), configuration)
    except np.linalg.LinAlgError:
        return undefined
    slope, error = float(fit.coefficients[0]), float(fit.errors[0])
    if not math.isfinite(error):
        return undefined
    half = float(stdtrit(groups - 1, (1 + LEVEL) / 2)) * error
    return Interval(slope, slope - half, slope + half, n)


def main_effects(design: Design) -> Floats:
    """A constant and indicators of the values of every axis and of the label noise, without redundant columns."""
    columns = [np.ones(len(design))]
    for codes in (*design.codes.T, design.level):
        columns += [(codes == value).astype(np.float64) for value in np.unique(codes)[1:]]
    matrix = np.stack(columns, axis=1)
    if not len(matrix):
        return matrix
    _, r, order = scipy.linalg.qr(matrix, mode="economic", pivoting=True)
    size = np.abs(np.diagonal(r))
    return np.asarray(matrix[:, np.sort(order[: len(size)][size > 1e-9 * size[0]])])


def _ranks(measure: Floats, gap: Floats, design: Design) -> tuple[Floats, Floats, Design]:
    """Centred mean ranks of both over the runs that have both, and their design."""
    covered = np.isfinite(measure) & np.isfinite(gap)
    kept = design.take(covered)
    x, y = (rankdata(values[covered]) - (covered.sum() + 1) / 2 for values in (measure, gap))
    return x, y, kept


def _explained(left: Floats, values: Floats) -> bool:
    return float(left @ left) <= _NOTHING_LEFT * float(values @ values)
