"""The noise ceiling: what a perfect measure of the true gap could score, the test set being finite."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import Floats, Indices, settled
from gapbench.evaluate.statistics.rank import noise_strata, tau_estimates, varying_levels
from gapbench.evaluate.statistics.resampling import Estimate

OVERALL = "overall"
WITHIN_NOISE = "within_noise"


@dataclass(frozen=True)
class Ceiling:
    """Of one stratum: tau_b between the gaps of two halves of the test set, the reliability of the whole test set's gap
    (its squared correlation with the true gap), and the tau_b of the true gap with it."""

    split_half: Interval
    reliability: Interval
    ceiling: Interval


def noise_ceiling(
    test_errors: NDArray[np.floating],
    train_errors: Floats,
    design: Design,
    rng: np.random.Generator,
    *,
    splits: int = 50,
) -> Mapping[str, Ceiling]:
    """The noise ceiling "overall", in each label noise ("label_noise=0.5"), and its mean over those ("within_noise").

    Formula: t = tau_b between the gaps on two random halves of the test set, the same halves for every run, averaged
    over ``splits``; r = sin(π t / 2) (Greiner's relation); reliability ρ = 2 r / (1 + r) (Spearman & Brown), 0 where
    r < 0; ceiling = (2/π) asin √ρ. Both relations hold for Gaussian gaps and are close elsewhere. Where the gaps hardly
    differ the ceiling of one zoo is noisy and biased low, for √ is concave. The bounds are those of t over recipes, by
    `Estimate`, through the same formula.
    "within_noise" averages the label noises that `within_noise_tau` does. "overall" corrects the pairs of runs
    inside each label noise and between each two by themselves, for together they are far from Gaussian, and averages
    the ceilings by the number of pairs; its reliability is the one that has this ceiling.
    ``test_errors`` (runs, test examples): expected error of each; ``train_errors`` (runs,).
    Raises: InputError below four test examples, or where the shapes do not match the design.
    """
    runs, size = test_errors.shape
    if runs != len(design) or train_errors.shape != (runs,):
        raise InputError(
            f"noise_ceiling: test_errors has {runs} runs, train_errors {train_errors.shape}, the design {len(design)}; "
            "give one row for each run of the design"
        )
    if size < 4:
        raise InputError(f"noise_ceiling: {size} test examples cannot be halved; at least 4 are needed")
    half = size // 2
    chosen = np.zeros((size, 2 * splits), np.float32)
    for split in range(splits):
        order = rng.permutation(size)
        chosen[order[:half], split] = 1.0
        chosen[order[half : 2 * half], splits + split] = 1.0
    # Single-precision errors are summed in double precision, so that equal numbers of errors stay equal.
    errors = test_errors.astype(np.float64)
    gaps = settled(errors @ chosen / half - train_errors[:, None])
    first, second = gaps[:, :splits], gaps[:, splits:]
    gap = settled(errors.mean(axis=1) - train_errors)
    levels = {f"label_noise={design.noises[design.level[rows[0]]]:g}": rows for rows in varying_levels(gap, design)}
    everything = np.arange(runs)
    within = {name: _stratum(first, second, rows, design) for name, rows in levels.items()}
    half = _split_half(first, second, everything, design).interval()
    out = {OVERALL: Ceiling(half, *_overall(first, second, design, list(within.values()), list(levels.values())))}
    if within:
        averaged = {int(rows[0]) for rows in noise_strata(gap, design)}
        parts = [within[name] for name, rows in levels.items() if int(rows[0]) in averaged]
        out |= within | {
            WITHIN_NOISE: Ceiling(
                _mean([part.split_half for part in parts]),
                _mean([part.reliability for part in parts]),
                _mean([part.ceiling for part in parts]),
            )
        }
    return out


def _overall(
    first: Floats, second: Floats, design: Design, within: Sequence[Ceiling], levels: Sequence[Indices]
) -> tuple[Interval, Interval]:
    """Reliability and ceiling over all pairs of runs, from the pairs inside each label noise and those between two."""
    parts = [part.ceiling for part in within]
    weights = [len(rows) * (len(rows) - 1) / 2 for rows in levels]
    for a, b in itertools.combinations(range(len(design.noises)), 2):
        rows = np.flatnonzero((design.level == a) | (design.level == b))
        parts.append(_through(ceiling, _split_half(first, second, rows, design, between_noises=True).interval()))
        weights.append(float((design.level == a).sum() * (design.level == b).sum()))
    if not parts:
        return (Interval(math.nan, math.nan, math.nan, len(design)),) * 2
    mean = replace(_mean(parts, weights), n=len(design))
    return _through(lambda tau: math.sin(math.pi * tau / 2) ** 2, mean), mean


def _stratum(first: Floats, second: Floats, rows: Indices, design: Design) -> Ceiling:
    half = _split_half(first, second, rows, design).interval()
    return Ceiling(half, _through(reliability, half), _through(ceiling, half))


def _split_half(
    first: Floats, second: Floats, rows: Indices, design: Design, *, between_noises: bool = False
) -> Estimate:
    """tau_b between the columns of the two (runs, splits), averaged over the splits in which it is defined."""
    estimates = [
        tau_estimates(first[:, [split]], second[:, split], design, [rows], "b", between_noises=between_noises)[0]
        for split in range(first.shape[1])
    ]
    defined = [estimate for estimate in estimates if not math.isnan(estimate.point)]
    if not defined:
        return estimates[0]
    return replace(
        defined[0],
        point=float(np.mean([estimate.point for estimate in defined])),
        influence=np.mean([estimate.influence for estimate in defined], axis=0),
        pair_squares=float(np.mean([estimate.pair_squares for estimate in defined])),
        own_squares=float(np.mean([estimate.own_squares for estimate in defined])),
    )


def reliability(split_half: float) -> float:
    """ρ = 2 r / (1 + r) with r = sin(π t / 2), of a split-half tau t; 0 where t < 0."""
    if math.isnan(split_half):
        return math.nan
    r = max(math.sin(math.pi * split_half / 2), 0.0)
    return 2 * r / (1 + r)


def ceiling(split_half: float) -> float:
    """(2/π) asin √ρ, the tau of the true gap with the observed one."""
    return 2 / math.pi * math.asin(math.sqrt(min(reliability(split_half), 1.0)))


def _through(increasing: Callable[[float], float], interval: Interval) -> Interval:
    return Interval(increasing(interval.point), increasing(interval.low), increasing(interval.high), interval.n)


def _mean(parts: Sequence[Interval], weights: Sequence[float] | None = None) -> Interval:
    # Averages of the parts' bounds, as if the parts erred together: they hold the same recipes.
    bounds = np.average([(part.point, part.low, part.high) for part in parts], axis=0, weights=weights)
    return Interval(float(bounds[0]), float(bounds[1]), float(bounds[2]), sum(part.n for part in parts))


def between_seeds(gap: Floats, design: Design) -> Interval:
    """tau_b between the gaps of two seeds of the same configurations, inside each label noise, averaged over the pairs
    of seeds and the label noises.

    What a measure that sees the design alone, and not the network, could score at most, about. ``gap`` (runs,), finite.
    Bounds over recipes, the averages taken as in `noise_ceiling`. NaN where no two seeds have three configurations.
    """
    found = []
    for rows in noise_strata(gap, design):
        for first, second in itertools.combinations(np.unique(design.replicate[rows]), 2):
            one, other = (rows[design.replicate[rows] == seed] for seed in (first, second))
            _, here, there = np.intersect1d(design.recipe[one], design.recipe[other], return_indices=True)
            kept = np.zeros(len(design), bool)
            kept[one[here]] = True
            # In the order of the runs, each with the gap of its recipe's other seed.
            order = np.argsort(one[here])
            partner = gap[other[there]][order]
            everything = [np.arange(len(partner))]
            estimate = tau_estimates(partner[:, None], gap[kept], design.take(kept), everything, "b")[0]
            if len(partner) > 2 and not math.isnan(estimate.point):
                found.append(estimate.interval())
    return _mean(found) if found else Interval(math.nan, math.nan, math.nan, len(gap))


def spearman_ceiling(reliable: float) -> float:
    """(6/π) asin(√ρ / 2), the Spearman correlation of the true gap with one of this reliability, for Gaussian gaps."""
    return 6 / math.pi * math.asin(math.sqrt(min(max(reliable, 0.0), 1.0)) / 2)
