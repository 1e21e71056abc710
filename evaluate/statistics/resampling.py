"""Uncertainty of a score: the bootstrap over whole recipes, and the permutation null."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.interval import Interval, score_interval
from gapbench.evaluate.statistics.pairs import Floats, Indices

NO_DRAWS: Floats = np.zeros(0)

_STILL = 1e-12
"""The spread of draws below which rounding is all that moves them."""


@dataclass(frozen=True)
class Estimate:
    """A score and what each recipe contributes to it.

    The unit of resampling is the recipe: all its seeds and all its label noises travel together. Label noise is a
    designed factor, so every resample keeps the noises as balanced as the zoo is, and a run stays beside its
    random-label twin. Recipes stand for the population of recipes that could have been trained; the levels of the label
    noise are fixed.

    The bootstrap is that of the linearised score, S* = S + Σ_r (w_r − 1) e_r with multinomial counts w and the
    influence e_r of a recipe: a copy of a recipe meets no other copy of itself, which would make ties that the zoo
    does not have. Its variance Σ e_r² needs no drawing; it is enlarged by R (R − 1) / (R − 2)², as the delete-one
    jackknife's is.
    Where every recipe is compared with every other this variance is used as it is. Where it is compared with few
    (granulated tau: one a two-valued axis) it counts what belongs to a pair of recipes once for each of the two, so the
    pairs' own squares are subtracted once: the dyadic-robust variance of Aronow, Samii & Assenova 2015, eq. 5. Either
    is at least the variance of independent pairs. `score_interval` turns it into bounds.

    ``resamples`` are drawn ones, where they were asked for: the score of the table in which a recipe drawn k times
    stands k times, NaN where that is undefined. The same draws serve every score and measure (`resampled_counts`), so
    that they are paired. Pairs of a run with its own copies are ties there, which pull tau_a towards 0; and what
    belongs to a pair of recipes varies threefold in scores that compare a recipe with few others. The intervals are
    therefore those of the linearised score, and the draws give ranks and differences (`paired_resamples`).

    ``influence`` (recipes,): 0 for a recipe that did not enter. ``pair_squares``: the sum over pairs of different
    recipes of their squared contributions, ``own_squares`` over comparisons within a recipe. ``recipes`` entered;
    ``comparisons`` counts the pairs of recipes (or the recipes, for a score that compares only within them).
    """

    point: float
    influence: Floats
    pair_squares: float
    own_squares: float
    recipes: int
    comparisons: int
    n: int
    sparse: bool = False
    lowest: float = -1.0
    resamples: Floats = field(default_factory=lambda: NO_DRAWS, repr=False, compare=False)

    @property
    def variance(self) -> float:
        """The sampling variance over recipes; NaN below three recipes."""
        if self.recipes < 3 or math.isnan(self.point):
            return math.nan
        small_sample = self.recipes * (self.recipes - 1) / (self.recipes - 2) ** 2
        variance = small_sample * float(self.influence @ self.influence)
        variance -= self.pair_squares if self.sparse else 0.0
        return max(variance, self.pair_squares + self.own_squares)

    def interval(self) -> Interval:
        """The score with its 95 % interval over recipes."""
        low, high = score_interval(
            self.point, self.variance, clusters=self.recipes, comparisons=self.comparisons, lowest=self.lowest
        )
        return Interval(self.point, low, high, self.n)


def linearised(
    point: float,
    dyads: Floats,
    counts: Floats,
    n: int,
    *,
    sparse: bool,
    lowest: float = -1.0,
    resamples: Floats = NO_DRAWS,
) -> Estimate:
    """The estimate whose linearised score is the sum of ``dyads``.

    ``dyads``: (recipes, recipes), on and above the diagonal, what the comparisons between two recipes add to the
    score's deviation; they add up to 0. ``counts``: how many comparisons that is.
    """
    own = np.diagonal(dyads)
    compared = counts > 0
    across = int(np.triu(compared, 1).sum())
    return Estimate(
        point=point,
        influence=dyads.sum(axis=0) + dyads.sum(axis=1) - own,
        pair_squares=float((np.triu(dyads, 1) ** 2).sum()),
        own_squares=float((own**2).sum()),
        recipes=int((compared.any(axis=0) | compared.any(axis=1)).sum()),
        comparisons=across or int(np.diagonal(compared).sum()),
        n=n,
        sparse=sparse,
        lowest=lowest,
        resamples=resamples,
    )


@contextlib.contextmanager
def without_empty_warnings() -> Iterator[None]:
    """NumPy warns of the mean of a column of NaN alone: here NaN is the answer, a score that no draw defines."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)
        yield


def paired_resamples(estimates: Sequence[Estimate]) -> Floats:
    """The estimates' drawn resamples (resamples, estimates), each about its point and with its standard error.

    Formula: S + (S* − mean S*) · SE / sd S*. A difference between two columns then has its paired variance, in the
    scale of the intervals. A score that no draw moves stays; one that no draw defines is NaN.
    """
    drawn = np.stack([estimate.resamples for estimate in estimates], axis=1)
    points = np.array([estimate.point for estimate in estimates])
    error = np.sqrt([estimate.variance for estimate in estimates])
    with without_empty_warnings():
        deviations = drawn - np.nanmean(drawn, axis=0)
        spread = np.sqrt(np.nanmean(deviations**2, axis=0))
    scale = np.divide(error, spread, out=np.zeros_like(spread), where=spread > _STILL)
    resampled: Floats = points + deviations * scale
    return resampled


def quadratic_forms(dyads: Floats, counts: NDArray[np.int64]) -> Floats:
    """Σ_rs counts_r dyads_rs counts_s of whole ``dyads`` (recipes, recipes), for each row of counts: (resamples,).

    In single precision wherever that is exact.
    """
    largest = float(np.abs(dyads).sum(axis=0).max(initial=0.0)) * float(counts.max(initial=0))
    exact = np.float32 if largest < 1 << 24 else np.float64
    sums = counts.astype(exact) @ dyads.astype(exact)
    return np.asarray(np.einsum("ij,ij->i", sums, counts, dtype=np.float64, casting="unsafe"))


def resampled_counts(recipes: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each recipe is drawn in each resample of as many recipes: (resamples, recipes)."""
    return rng.multinomial(recipes, np.full(recipes, 1.0 / recipes), size=resamples)


def permuted(
    values: Floats, design: Design, replicates: int, rng: np.random.Generator, *, noises: bool = False
) -> Floats:
    """``values`` (runs,) moved between recipes: (runs, replicates), each column a rearrangement of the values.

    A recipe's values move as one block to another recipe, each to the run of the same label noise and replicate, so
    seeds travel together and nothing leaves its label-noise stratum. With ``noises=True`` a recipe's label noises are
    shuffled as well (all seeds alike): then nothing but the blocks' own ties and seed groups is kept. Moving the gap is
    the same as moving the measure, and serves all measures at once.

    Where recipes lack runs, one random permutation π of all recipes still moves them: a run's value comes from the
    first of π(r), π²(r), … that has such a run. That is a uniform permutation of the recipes that have one, and the
    same for every label noise and replicate that the same recipes have.
    """
    present, recipe = np.unique(design.recipe, return_inverse=True)
    recipes, levels, seeds = len(present), len(design.noises), int(design.replicate.max(initial=-1)) + 1
    run = np.full((recipes, levels, seeds), -1)
    run[recipe, design.level, design.replicate] = np.arange(len(values))
    source = rng.permuted(np.tile(np.arange(recipes), (replicates, 1)), axis=1)
    moved = np.full((replicates, len(values)), np.nan)
    if not noises or levels == 1:
        for level, seed in np.ndindex(levels, seeds):
            here = run[:, level, seed]
            at = np.flatnonzero(here >= 0)
            came = _first_return(source, np.broadcast_to(here >= 0, source.shape), at)
            moved[:, here[at]] = values[here[came]]
        return np.ascontiguousarray(moved.T)
    # The k-th of a recipe's own label noises, in an order drawn for each replicate, is what moves to a k-th one.
    keys = rng.random((replicates, recipes, levels), dtype=np.float32)
    keys[:, (run < 0).all(axis=2)] = 2.0
    order = keys.argsort(axis=2)
    every, replicate = np.arange(recipes), np.arange(replicates)[:, None]
    for place, seed in np.ndindex(levels, seeds):
        here = run[every, order[:, :, place], seed]
        came = _first_return(source, here >= 0, every)
        to, of = here[here >= 0], here[replicate, came][here >= 0]
        moved[np.nonzero(here >= 0)[0], to] = values[of]
    return np.ascontiguousarray(moved.T)


def _first_return(step: Indices, stops: NDArray[np.bool_], start: Indices) -> Indices:
    """Where each of ``start`` first stops when it follows ``step`` (replicates, recipes), one step at least.

    ``stops`` (replicates, recipes): where. Those that start outside may never stop, and are not followed.
    """
    at = step[:, start]
    rows = np.arange(len(step))[:, None]
    moving = ~stops[rows, at] & stops[:, start]
    while moving.any():
        at = np.where(moving, step[rows, at], at)
        moving &= ~stops[rows, at]
    return at


@dataclass(frozen=True)
class Band:
    """Where 95 % of the permuted scores lie, and the two-sided p-value of the observed one."""

    low: float
    high: float
    p: float


def null_band(point: float, permuted_scores: Floats, centre: float = 0.0) -> Band:
    """The permutation band of a score.

    Formula: the 2.5 % and 97.5 % quantiles of the permuted scores T*; p = (1 + #{|T* − c| ≥ |T − c|}) / (1 + #T*) with
    the null's centre c, which is exact for any number of permutations (Phipson & Smyth 2010). NaN where the score is
    undefined.
    """
    scores = permuted_scores[~np.isnan(permuted_scores)]
    if math.isnan(point) or len(scores) == 0:
        return Band(math.nan, math.nan, math.nan)
    low, high = np.quantile(scores, [0.025, 0.975])
    extreme = int((np.abs(scores - centre) >= abs(point - centre) - 1e-12).sum())
    return Band(float(low), float(high), (1 + extreme) / (1 + len(scores)))
