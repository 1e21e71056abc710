"""Measures against one another, score by score, from the same drawn resamples: places, and distances to the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from gapbench.evaluate.estimates import SCORES, estimates
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.resampling import Estimate, paired_resamples, without_empty_warnings

_BOUNDS = [0.025, 0.975]


@dataclass(frozen=True)
class Contest:
    """``values`` (runs, measures), signed, NaN where undefined; ``drawn`` (resamples, recipes) serves every score.

    ``known``: estimates by score, runs (a mask's bytes) and column; what is missing is computed and kept.
    """

    values: Floats
    gap: Floats
    design: Design
    drawn: NDArray[np.int64]
    known: dict[tuple[str, bytes, int], Estimate] = field(default_factory=dict)

    def covered(self, column: int) -> NDArray[np.bool_]:
        """The runs on which a measure is defined."""
        return np.isfinite(self.values[:, column])

    def estimates(self, score: str, runs: NDArray[np.bool_], columns: Sequence[int]) -> list[Estimate]:
        """The score of these measures on these runs, all defined."""
        mask = runs.tobytes()
        missing = [column for column in columns if (score, mask, column) not in self.known]
        if missing:
            measures = self.values[runs][:, missing]
            found = estimates(measures, self.gap[runs], self.design.take(runs), self.drawn, scores=[score])
            self.known.update({(score, mask, column): one[score] for column, one in zip(missing, found)})
        return [self.known[score, mask, column] for column in columns]


def places(contest: Contest, columns: Sequence[int]) -> pd.DataFrame:
    """Of the measures in these columns, for each score S of `SCORES`; index: the column.

    S_rank, S_rank_low, S_rank_high: the place among those whose score is defined with its uncertainty, and where it
    lies in 95 % of the resamples (for the first score without its name: rank, rank_low, rank_high). S_behind with _low
    and _high: the score less that of the best one (whose own is 0), on the runs that both cover, with 95 % of the
    resamples; S_beats_best: the share of them in which it scores higher, equal ones counting half.
    """
    parts = [_of_score(contest, columns, score) for score in SCORES]
    return pd.concat(parts, axis=1).rename(columns={f"{SCORES[0]}_{name}": name for name in _RANK})


_RANK = ("rank", "rank_low", "rank_high")
_BEHIND = ("behind", "behind_low", "behind_high", "beats_best")


def _of_score(contest: Contest, columns: Sequence[int], score: str) -> pd.DataFrame:
    out = pd.DataFrame(math.nan, index=list(columns), columns=[f"{score}_{name}" for name in (*_RANK, *_BEHIND)])
    own = {column: contest.estimates(score, contest.covered(column), [column])[0] for column in columns}
    own = {column: estimate for column, estimate in own.items() if not math.isnan(estimate.variance)}
    if not own:
        return out
    points = pd.Series({column: estimate.point for column, estimate in own.items()})
    drawn = pd.DataFrame(_resampled(list(own.values())), columns=list(own)).rank(axis=1, ascending=False)
    low, high = (drawn.quantile(bound) for bound in _BOUNDS)
    for name, found in zip(_RANK, (points.rank(ascending=False), low, high)):
        out.loc[list(own), f"{score}_{name}"] = found
    best = max(own, key=lambda column: own[column].point)
    patterns: dict[bytes, tuple[NDArray[np.bool_], list[int]]] = {}
    for column in own:
        both = contest.covered(column) & contest.covered(best)
        patterns.setdefault(both.tobytes(), (both, []))[1].append(column)
    for both, members in patterns.values():
        *others, leader = contest.estimates(score, both, [*members, best])
        if not len(leader.resamples):
            continue  # They share no run, or none that the score compares.
        resampled = _resampled([*others, leader])
        difference = resampled[:, :-1] - resampled[:, -1:]
        with without_empty_warnings():
            bounds = np.nanquantile(difference, _BOUNDS, axis=0)
            beats = np.nanmean((np.sign(difference) + 1) / 2, axis=0)
        behind = np.array([estimate.point - leader.point for estimate in others])
        out.loc[members, [f"{score}_{name}" for name in _BEHIND]] = np.stack([behind, *bounds, beats], axis=1)
    return out


def _resampled(estimates: Sequence[Estimate]) -> Floats:
    """`paired_resamples` (resamples, estimates) with the tails of few recipes, of which 95 % span the interval.

    Formula: S + (S* − S) · t / 1.96, t the quantile on recipes − 1 degrees of freedom of the score's own interval. A
    perfect score, which no draw moves, moves as far as its interval reaches; equal ones move alike.
    """
    points = np.array([estimate.point for estimate in estimates])
    freedom = np.array([max(estimate.recipes - 1, 1) for estimate in estimates])
    drawn: Floats = points + (paired_resamples(estimates) - points) * stdtrit(freedom, _BOUNDS[1]) / ndtri(_BOUNDS[1])
    steps = (np.arange(len(drawn)) + 0.5) / max(len(drawn), 1)
    size = np.abs(ndtri(np.random.default_rng(0).permutation(steps))) / ndtri(_BOUNDS[1])
    for at, estimate in enumerate(estimates):
        interval = estimate.interval()
        if estimate.variance == 0.0 and interval.point in (interval.low, interval.high):
            drawn[:, at] = interval.point + (interval.low + interval.high - 2 * interval.point) * size
    return drawn
