"""Kendall's rank correlation of a measure with the gap: tau_a, tau_b, and tau_b inside each label-noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import (
    Floats,
    Indices,
    KendallSums,
    Signs,
    dense_ranks,
    kendall_sums,
    ratio,
)
from gapbench.evaluate.statistics.recipe_pairs import RecipePairs, recipe_pairs
from gapbench.evaluate.statistics.resampling import NO_DRAWS, Estimate, linearised, quadratic_forms

Kind = Literal["a", "b"]

FEWEST_RECIPES = 6
"""Fewer recipes make no stratum of their own: two runs have a tau of 1 or −1, whatever they are, and as much weight in
a mean over levels as hundreds."""


def tau_a(measure: Floats, gap: Floats, design: Design) -> Interval:
    """Kendall's tau_a: the mean over ordered pairs of runs of sgn Δμ · sgn Δg.

    A tie counts 0, so a constant measure scores 0. ``measure`` and ``gap`` (runs,): runs without a finite value of both
    drop out. NaN below two runs. Source: Kendall 1938.
    """
    return _over_covered_runs(measure, gap, design, "a", within_noise=False)


def tau_b(measure: Floats, gap: Floats, design: Design) -> Interval:
    """Kendall's tau_b: Σ sgn Δμ sgn Δg / √(Σ (sgn Δμ)² · Σ (sgn Δg)²) over pairs of runs.

    Equal to scipy.stats.kendalltau. NaN (undefined) for a constant measure or gap. Source: Kendall 1945.
    """
    return _over_covered_runs(measure, gap, design, "b", within_noise=False)


def within_noise_tau(measure: Floats, gap: Floats, design: Design) -> Interval:
    """tau_b inside each label-noise level, averaged over the levels; without it the noise axis decides everything.

    Levels where the gap is constant are left out, for they order nothing: at label noise 1 the error under the training
    law is (C − 1)/C for every network, and with no training error every gap is the same. So are levels of fewer than
    `FEWEST_RECIPES` recipes, where another level has as many. A level where only the measure is constant counts 0, as
    in `granulated_tau`; NaN where the measure is constant in every level.
    """
    return _over_covered_runs(measure, gap, design, "b", within_noise=True)


def _over_covered_runs(measure: Floats, gap: Floats, design: Design, kind: Kind, *, within_noise: bool) -> Interval:
    covered = np.isfinite(measure) & np.isfinite(gap)
    kept = design.take(covered)
    strata = noise_strata(gap[covered], kept) if within_noise else [np.arange(len(kept))]
    return tau_estimates(measure[covered][:, None], gap[covered], kept, strata, kind)[0].interval()


def noise_strata(gap: Floats, design: Design) -> list[Indices]:
    """The runs of each label-noise level over which `within_noise_tau` is averaged."""
    varying = varying_levels(gap, design)
    large = [rows for rows in varying if len(np.unique(design.recipe[rows])) >= FEWEST_RECIPES]
    return large or varying


def varying_levels(gap: Floats, design: Design) -> list[Indices]:
    """The runs of each label-noise level in which the gap varies."""
    levels = [np.flatnonzero(design.level == level) for level in range(len(design.noises))]
    return [rows for rows in levels if len(rows) > 1 and np.ptp(gap[rows]) > 0]


def tau_estimates(
    measures: Floats,
    gap: Floats,
    design: Design,
    strata: Sequence[Indices],
    kind: Kind,
    *,
    between_noises: bool = False,
    drawn: NDArray[np.int64] | None = None,
) -> list[Estimate]:
    """tau_a or tau_b of each column (runs, measures), finite, with the gap (runs,), averaged over strata of runs.

    With ``between_noises`` only runs of different label noise are compared. ``drawn`` (resamples, recipes): how often
    each recipe is drawn, for `Estimate.resamples`: those of the table with the copies, where a run ties with its own.
    """
    x, y = dense_ranks(measures), dense_ranks(gap[:, None])[:, 0]
    shared = [_Stratum.of(y, rows, design, between_noises, drawn) for rows in strata if len(rows) > 1]
    counts = sum((stratum.pairs for stratum in shared), start=np.zeros((design.recipes, design.recipes)))
    n = sum(map(len, strata))
    return [_tau_estimate(x[:, column], shared, counts, n, kind) for column in range(x.shape[1])]


@dataclass(frozen=True)
class _Stratum:
    """A stratum's runs sorted by recipe, and the sums that all measures share."""

    rows: Indices
    sums: RecipePairs
    pairs: Floats
    untied: Floats
    drawn: NDArray[np.int64] | None
    drawn_pairs: Floats
    drawn_untied: Floats

    @classmethod
    def of(
        cls, gap: Signs, rows: Indices, design: Design, between_noises: bool, drawn: NDArray[np.int64] | None
    ) -> _Stratum:
        rows = rows[np.argsort(design.recipe[rows], kind="stable")]
        recipe, level = design.recipe[rows], design.level[rows]
        sums = recipe_pairs(gap[rows], recipe, level, design.recipes, between_noises=between_noises)
        # A run has no place but its own: every two differ, so they count the pairs.
        pairs, untied = sums.untied(np.arange(len(rows), dtype=np.float32)), sums.untied(gap[rows])
        drawn_pairs = drawn_untied = NO_DRAWS
        if drawn is not None:
            drawn_untied, drawn_pairs = quadratic_forms(untied, drawn), quadratic_forms(pairs, drawn)
            if not between_noises:
                # A run and its copies are pairs too.
                drawn_pairs += (drawn * (drawn - 1) / 2) @ np.bincount(recipe, minlength=design.recipes)
        return cls(rows, sums, pairs, untied, drawn, drawn_pairs, drawn_untied)

    def untied_values(self, values: Signs) -> Floats:
        """How many of the pairs differ in the values, by pairs of recipes."""
        return self.pairs if len(np.unique(values)) == len(values) else self.sums.untied(values)

    def resampled(self, concordance: Floats, untied: Floats | None) -> tuple[Floats, NDArray[np.bool_]]:
        """tau_b in each resample, or tau_a where ``untied`` (of the values) is None; and whether the stratum enters."""
        if self.drawn is None:
            return NO_DRAWS, NO_DRAWS > 0
        if untied is None:
            norm, enters = self.drawn_pairs, self.drawn_pairs > 0
        else:
            norm = np.sqrt(quadratic_forms(untied, self.drawn) * self.drawn_untied)
            enters = self.drawn_untied > 0
        return ratio(quadratic_forms(concordance, self.drawn), norm), enters


def _tau_estimate(x: Signs, strata: Sequence[_Stratum], counts: Floats, n: int, kind: Kind) -> Estimate:
    recipes = len(counts)
    score, defined = 0.0, False
    dyads = np.zeros((recipes, recipes))
    draws = []
    for stratum in strata:
        values = x[stratum.rows]
        concordance = stratum.sums.concordance(values)
        if kind == "a":
            norm, drift = stratum.pairs.sum(), stratum.pairs / max(stratum.pairs.sum(), 1)
            draws.append(stratum.resampled(concordance, None))
        else:
            untied = stratum.untied_values(values)
            draws.append(stratum.resampled(concordance, untied))
            norm = math.sqrt(untied.sum() * stratum.untied.sum())
            drift = (untied / untied.sum() + stratum.untied / stratum.untied.sum()) / 2 if norm > 0 else untied
        if norm > 0:
            tau = float(concordance.sum() / norm)
            score += tau / len(strata)
            dyads += (concordance / norm - tau * drift) / len(strata)
            defined = True
    point = score if defined else math.nan
    return linearised(point, dyads, counts, n, sparse=False, resamples=_over_strata(draws))


def _over_strata(draws: Sequence[tuple[Floats, NDArray[np.bool_]]]) -> Floats:
    """The mean over the strata that enter, one without an order counting 0; NaN where none has an order."""
    if not draws:
        return NO_DRAWS
    taus = np.stack([tau for tau, _ in draws])
    entering = np.stack([enters for _, enters in draws]).sum(axis=0).astype(np.float64)
    mean: Floats = np.where(np.isnan(taus).all(axis=0), np.nan, ratio(np.nansum(taus, axis=0), entering))
    return mean


def tau_replicates(measures: Floats, gaps: Floats) -> KendallSums:
    """The Kendall sums of each column of measures (runs, measures) with each of gaps (runs, replicates)."""
    return kendall_sums(dense_ranks(measures), _joint_ranks(gaps), np.arange(len(gaps)))


def within_noise_replicates(measures: Floats, gaps: Floats, strata: Sequence[Indices]) -> Floats:
    """`within_noise_tau` of each column of measures with each of gaps (runs, replicates), in these strata of runs."""
    if not strata:
        return np.full((measures.shape[1], gaps.shape[1]), np.nan)
    x, y = dense_ranks(measures), _joint_ranks(gaps)
    taus = np.stack([kendall_sums(x, y, rows).tau_b() for rows in strata])
    undefined = np.isnan(taus).all(axis=0)
    return np.where(undefined, np.nan, np.nan_to_num(taus, nan=0.0).mean(axis=0))


def _joint_ranks(gaps: Floats) -> Signs:
    """Ranks over the whole array: replicates are rearrangements of one another, and one sort serves them all."""
    return dense_ranks(gaps.reshape(-1, 1)).reshape(gaps.shape)
