"""The sign error of a measure, environment by environment: where it predicts, and where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import CellPairs
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import Floats, Indices, by_recipe_pair, settled, significant
from gapbench.evaluate.statistics.quantile import quantile_interval
from gapbench.evaluate.statistics.resampling import Estimate, linearised

LEAST_SIZE = 12.0
"""The effective number of pairs of seeds that an environment needs."""


@dataclass(frozen=True)
class SignErrors:
    """Over environments: the mean, the 90th percentile and the maximum ("worst case", without bounds); and all of them.

    ``by_axis``: the errors of the environments of each axis, each environment once. ``environments`` were kept of
    ``candidates``; ``largest_size`` is the largest effective sample size of a candidate (0 where there is none).
    """

    mean: Interval
    percentile_90: Interval
    maximum: Interval
    by_axis: Mapping[str, Floats]
    environments: int
    candidates: int
    largest_size: float


def hoeffding_weight(difference: Floats, test_size: Floats | float) -> Floats:
    """(1 − 2 exp(−n Δg² / 2))₊²: how sure n test examples make the sign of a difference of gaps (fractions)."""
    confidence = 1.0 - 2.0 * np.exp(-np.asarray(test_size) * difference**2 / 2.0)
    return np.asarray(np.maximum(confidence, 0.0) ** 2)


def smallest_counted_difference(test_size: float) -> float:
    """The difference of gaps whose `hoeffding_weight` is ½: smaller ones do not count in `sign_errors`."""
    return math.sqrt(-2.0 / test_size * math.log((1.0 - math.sqrt(0.5)) / 2.0))


def effective_sample_size(weights: Floats) -> float:
    """(Σ w)² / Σ w²; 0 where all are 0."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def sign_errors(
    measure: Floats, gap: Floats, design: Design, test_size: Floats | float, *, least_size: float = LEAST_SIZE
) -> SignErrors:
    """How often the measure orders two configurations otherwise than the gap does.

    An environment is two configurations that differ in one axis (equal in every other, and in the label noise), in both
    orders, which have the same error: the mean of ½ (1 − sgn Δμ · sgn Δg) over all their pairs of runs, a tie ½,
    weighted by (w − ½)₊ with the `hoeffding_weight` w of the pair. It is kept where those weights' effective sample
    size reaches ``least_size``; two configurations of s seeds have s² pairs, so that fewer than four seeds leave none.
    ``measure`` and ``gap`` (runs,), the gap in fractions: runs without a finite value of both drop out. ``test_size``:
    test examples behind each gap, or (runs,); the smaller of two counts. Bounds over recipes as those of granulated
    tau, of the percentile by Woodruff's method. NaN where no environment is kept.
    Source: Dziugaite et al. 2020, section 3 and appendix; the maximum is their robust error.
    """
    covered = np.isfinite(measure) & np.isfinite(gap)
    kept = design.take(covered)
    sizes = np.broadcast_to(np.asarray(test_size, np.float64), measure.shape)[covered]
    x, y = significant(measure[covered]), gap[covered]
    units = CellPairs.of(kept, y)
    first, second, environment = _run_pairs(units)
    # Rounding must not order equal gaps; the weights would not count such a difference, but a tie is ½.
    rounded = settled(y)
    product = np.sign(x[first] - x[second]) * np.sign(rounded[first] - rounded[second])
    certainty = hoeffding_weight(y[first] - y[second], np.minimum(sizes[first], sizes[second]))
    weight = np.maximum(certainty - 0.5, 0.0)
    count = len(units.first)
    total = np.bincount(environment, weight, minlength=count)
    squares = np.bincount(environment, weight**2, minlength=count)
    size = np.divide(total**2, squares, out=np.zeros(count), where=squares > 0)
    wrong = np.bincount(environment, weight * (1.0 - product) / 2.0, minlength=count)
    # 12 equal weights reach 12 but for rounding.
    chosen = np.flatnonzero(size >= least_size * (1 - 1e-12)) if count else np.zeros(0, np.int64)
    errors: Floats = wrong[chosen] / total[chosen]
    n = len(np.unique(np.concatenate([first, second])[np.tile(np.isin(environment, chosen), 2)])) if count else 0
    recipes = units.unit_recipe[units.first[chosen]], units.unit_recipe[units.second[chosen]]

    def share(values: Floats) -> Estimate:
        mean = float(values.mean()) if len(values) else math.nan
        dyads = by_recipe_pair(*recipes, (values - mean) / max(len(values), 1), design.recipes)
        counts = by_recipe_pair(*recipes, None, design.recipes)
        return linearised(mean, dyads, counts, n, sparse=True, lowest=0.0)

    axis = np.repeat(units.axis, np.diff(units.start, append=count))[chosen]
    # Both orders of two configurations are environments: the percentile counts each error twice.
    percentile = quantile_interval(np.repeat(errors, 2), 0.9, lambda values: share(values[::2]), n)
    return SignErrors(
        mean=share(errors).interval(),
        percentile_90=percentile,
        maximum=Interval(float(errors.max()) if len(errors) else math.nan, math.nan, math.nan, n),
        by_axis={name: errors[axis == at] for at, name in enumerate(units.axes)},
        environments=2 * len(chosen),
        candidates=2 * count,
        largest_size=float(size.max(initial=0.0)),
    )


@dataclass(frozen=True)
class EnvironmentErrors:
    """The sign error of many measures in every environment: ``errors`` and ``sizes`` (environments, measures).

    An error is NaN where the environment's effective number of pairs (``sizes``) is too small. ``axis`` (environments,)
    indexes the axes; ``first`` and ``second`` (environments,) are runs, one on each side.
    """

    axis: Indices
    first: Indices
    second: Indices
    errors: Floats
    sizes: Floats


def environment_errors(
    measures: Floats,
    gap: Floats,
    design: Design,
    test_size: Floats | float,
    *,
    pooled: bool = False,
    least_size: float = LEAST_SIZE,
) -> EnvironmentErrors:
    """The errors that `sign_errors` sums up, each environment in one order, for every column of measures.

    With ``pooled`` an environment is two values of an axis at one label noise, whatever the other axes are, its pairs
    of runs still equal in these: there are pairs enough where configurations have few seeds, and it tells less of the
    worst case.
    ``measures`` (runs, measures), multiplied by their declared signs, NaN where undefined; ``gap`` (runs,), finite.
    """
    sizes = np.broadcast_to(np.asarray(test_size, np.float64), gap.shape)
    units = CellPairs.of(design, gap)
    first, second, environment = _run_pairs(units)
    axis = np.repeat(units.axis, np.diff(units.start, append=len(units.first)))
    if pooled and len(environment):
        one, other = (design.codes[units.order[units.starts[unit]]] for unit in (units.first, units.second))
        at = np.arange(len(axis))
        level = design.level[units.order[units.starts[units.first]]]
        keys = np.stack([axis, one[at, axis], other[at, axis], level], axis=1)
        kinds, representative, number = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        environment, axis = number.reshape(-1)[environment], kinds[:, 0]
    else:
        representative = np.arange(len(axis))
    count = len(axis)
    certainty = hoeffding_weight(gap[first] - gap[second], np.minimum(sizes[first], sizes[second]))
    counted = certainty > 0.5
    first, second, environment = first[counted], second[counted], environment[counted]
    weight: Floats = certainty[counted] - 0.5
    rounded, x = settled(gap), significant(measures)
    direction = np.sign(rounded[first] - rounded[second])
    errors, effective = np.full((2, count, measures.shape[1]), np.nan)
    for column in range(measures.shape[1]):
        difference = x[first, column] - x[second, column]
        known = ~np.isnan(difference)
        own = np.where(known, weight, 0.0)
        total, squares = np.bincount(environment, own, count), np.bincount(environment, own**2, count)
        wrong = np.bincount(environment, own * (1.0 - np.sign(np.where(known, difference, 0.0)) * direction) / 2, count)
        size = np.divide(total**2, squares, out=np.zeros(count), where=squares > 0)
        kept = size >= least_size * (1 - 1e-12)
        errors[kept, column], effective[:, column] = wrong[kept] / total[kept], size
    one, other = (units.order[units.starts[unit]][representative] for unit in (units.first, units.second))
    return EnvironmentErrors(axis, one, other, errors, effective)


def _run_pairs(units: CellPairs) -> tuple[Indices, Indices, Indices]:
    """Every pair of runs of the two configurations of a comparison, and the number of the comparison: (run pairs,)."""
    sizes = np.diff(units.starts, append=len(units.order))
    counts = sizes[units.first] * sizes[units.second]
    environment = np.repeat(np.arange(len(units.first)), counts)
    place = np.arange(len(environment)) - np.repeat(np.cumsum(counts) - counts, counts)
    width = sizes[units.second[environment]]
    first = units.order[units.starts[units.first[environment]] + place // np.maximum(width, 1)]
    second = units.order[units.starts[units.second[environment]] + place % np.maximum(width, 1)]
    return first, second, environment
