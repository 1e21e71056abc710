"""The leaderboard: every measure of a table scored against the gap, with its uncertainty and its coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gapbench.evaluate.contest import Contest, places
from gapbench.evaluate.declared import kind
from gapbench.evaluate.estimates import PSI_PREFIX, SCORES, estimates
from gapbench.evaluate.statistics.ceiling import Ceiling, noise_ceiling
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import CellPairs, granulated_replicates
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.pairs import Floats, settled
from gapbench.evaluate.statistics.randomisation import CENTRE, auc_replicates
from gapbench.evaluate.statistics.rank import noise_strata, tau_replicates, varying_levels, within_noise_replicates
from gapbench.evaluate.statistics.resampling import (
    Estimate,
    null_band,
    permuted,
    resampled_counts,
)
from gapbench.evaluate.statistics.same_ranking import same_rankings
from gapbench.evaluate.targets import ERROR_GAP, converged

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

_ROUNDING = 9

Pattern = tuple[list[int], NDArray[np.bool_]]


def leaderboard(
    table: Table, *, target: str = "error_gap", resamples: int = 1000, permutations: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Every entry of the table but the features scored against the gap; index: their keys, best first.

    Runs that did not converge are left out. All scores take the measure times its declared sign, over the runs on which
    it is defined.

    Columns: family, source, sign, control; kind ("measure", "control", "predictor" for what was fitted to the gap, or
    "uses test inputs" for what sees them without their labels); same_as (the entry that ranks these runs alike and
    stands for it, see `same_rankings`, or ""); n (runs that entered); ok, undefined, failed (readings of those runs);
    seconds (median of a run); for each score S of `SCORES`: S, S_low, S_high (95 % over recipes, see
    `resampling.Estimate`), S_null_low, S_null_high (95 % of permutations) and S_p (their two-sided p-value);
    psi_AXIS for each axis with _low and _high; rank, rank_low, rank_high: the place by `within_noise_tau` among those
    of kind "measure" that have one and repeat no other's ranking (equal ones are placed by the scores after it), and
    where it lies in 95 % of ``resamples`` paired bootstrap samples; for each other score S_rank (equal ones share their
    mean place), S_rank_low, S_rank_high; and for every score S_behind with _low and _high, and S_beats_best: how far it
    is from the best (`gapbench.evaluate.contest.places`).
    A score that is undefined is NaN, and so is a bound; a measure without a value has a row of them.

    The nulls: tau_a and tau_b move the gap between whole recipes and shuffle the label noises within a recipe, so that
    the label noise counts as information; granulated and within-noise tau move it between whole recipes within each
    label noise; the AUC shuffles the label noises within a recipe. Seeds always travel together.

    Sorted by `SCORES` in turn, what has too few recipes for an interval after what has one; what is not ranked stands
    in place.

    ``attrs``: target, runs, excluded_not_converged, recipes, configurations, seeds (the most of a recipe), axes,
    noises, constant_gap and few_recipes (label noises in which the gap is constant, and of too few recipes for
    `within_noise_tau`), cells (axis -> counted, single, constant_gap),
    ceiling (stratum -> split_half, reliability, ceiling, low, high, n; empty where the target is not the error gap or
    test errors are missing), resamples, permutations, seed.

    Raises: InputError where the target is no column of the runs, no run converged, or it is not finite on one that did.
    """
    ranked, gap = converged(table, target)
    gap = settled(gap, _ROUNDING)
    design = Design.of(ranked, table.axes)
    keys = [key for key, entry in table.measures.items() if kind(entry) != "feature"]
    signs = np.array([table.measures[key].sign for key in keys], np.float64)
    values = table.values.reindex(index=ranked.index, columns=keys).to_numpy(np.float64) * signs

    patterns = _coverage_patterns(values)
    contest = Contest(
        values, gap, design, resampled_counts(design.recipes, resamples, np.random.default_rng([seed, 3]))
    )
    scored: dict[str, dict[str, Estimate]] = {}
    for columns, covered in patterns:
        found = estimates(values[covered][:, columns], gap[covered], design.take(covered), contest.drawn)
        scored |= {keys[column]: by_score for column, by_score in zip(columns, found)}
        mask = covered.tobytes()
        contest.known.update(
            {(score, mask, column): one[score] for column, one in zip(columns, found) for score in SCORES}
        )
    nulls = _nulls(values, gap, design, patterns, permutations, seed)
    rows = {key: _row(scored[key], {score: null[at] for score, null in nulls.items()}) for at, key in enumerate(keys)}

    frame = _descriptions(table, keys, ranked.index, np.isfinite(values).sum(axis=0))
    repeated = same_rankings(values, keys, frame["kind"].tolist())
    frame.insert(list(frame).index("n"), "same_as", [repeated.get(key, "") for key in keys])
    frame = frame.join(pd.DataFrame.from_dict(rows, orient="index"))
    order = _sorted(frame)
    # The leader is the first of equal ones in the order that is shown.
    competing = [
        keys.index(key) for key in order if frame.at[key, "kind"] == "measure" and frame.at[key, "same_as"] == ""
    ]
    ranks = places(contest, competing)
    ranks.index = frame.index[competing]
    frame = frame.join(ranks).loc[order]
    placed = frame["rank"].notna()
    frame.loc[placed, "rank"] = np.arange(1.0, placed.sum() + 1)
    frame.index.name = "measure"
    ceilings: Mapping[str, Ceiling] = {}
    kept = table.runs.index.isin(ranked.index)
    if target == ERROR_GAP and table.test_errors is not None and len(ranked) > 1:
        train_errors = ranked["train_error"].to_numpy(np.float64)
        ceilings = noise_ceiling(table.test_errors[kept], train_errors, design, np.random.default_rng([seed, 4]))
    frame.attrs = {
        "target": target,
        "runs": len(ranked),
        "excluded_not_converged": int((~kept).sum()),
        "resamples": resamples,
        "permutations": permutations,
        "seed": seed,
        "ceiling": {stratum: _as_dict(ceiling) for stratum, ceiling in ceilings.items()},
    }
    frame.attrs.update(_design_attrs(design, gap))
    return frame


def _coverage_patterns(values: Floats) -> list[Pattern]:
    """Measures that are defined on the same runs: (their columns, those runs). They share every pair."""
    patterns: dict[bytes, Pattern] = {}
    for column, covered in enumerate(np.isfinite(values).T):
        patterns.setdefault(covered.tobytes(), ([], covered))[0].append(column)
    return list(patterns.values())


def _nulls(
    values: Floats,
    gap: Floats,
    design: Design,
    patterns: Sequence[Pattern],
    permutations: int,
    seed: int,
) -> dict[str, Floats]:
    """Each score under its null: (measures, permutations), over the runs on which the measure is defined.

    The same permuted gaps serve all measures that are defined on the same runs.
    """
    names = ("within_noise_tau", "granulated_tau", "tau_b", "tau_a", "randomisation_auc")
    nulls = {name: np.empty((values.shape[1], permutations)) for name in names}
    for columns, covered in patterns:
        measures, kept, there = values[covered][:, columns], design.take(covered), gap[covered]
        rng = np.random.default_rng([seed, 1])
        between = permuted(there, kept, permutations, rng)
        sums = tau_replicates(measures, permuted(there, kept, permutations, rng, noises=True))
        found = (
            within_noise_replicates(measures, between, noise_strata(there, kept)),
            granulated_replicates(measures, between, CellPairs.of(kept, there)),
            sums.tau_b(),
            sums.tau_a(),
            auc_replicates(measures, kept, permutations, np.random.default_rng([seed, 2])),
        )
        for name, scores in zip(names, found, strict=True):
            nulls[name][columns] = scores
    return nulls


def _row(estimates: Mapping[str, Estimate], nulls: Mapping[str, Floats]) -> dict[str, float]:
    row: dict[str, float] = {}
    for score in SCORES:
        found = estimates[score].interval()
        band = null_band(found.point, nulls[score], CENTRE if score == "randomisation_auc" else 0.0)
        row |= _bounds(score, found)
        row |= {f"{score}_null_low": band.low, f"{score}_null_high": band.high, f"{score}_p": band.p}
    for name, estimate in estimates.items():
        if name.startswith(PSI_PREFIX):
            row |= _bounds(name, estimate.interval())
    return row


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.point, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _descriptions(table: Table, keys: list[str], runs: pd.Index, n: NDArray[np.int64]) -> pd.DataFrame:
    readings = table.readings[table.readings["run"].isin(runs)]
    statuses = pd.crosstab(readings["measure"], readings["status"])
    statuses = statuses.reindex(index=keys, columns=["ok", "undefined", "failed"], fill_value=0)
    entries = [table.measures[key] for key in keys]
    frame = pd.DataFrame(
        {
            "family": [entry.family for entry in entries],
            "source": [entry.source for entry in entries],
            "sign": [entry.sign for entry in entries],
            "control": [entry.control for entry in entries],
            "kind": [kind(entry) for entry in entries],
            "n": n,
        },
        index=keys,
    )
    frame[["ok", "undefined", "failed"]] = statuses.to_numpy()
    frame["seconds"] = readings.groupby("measure")["seconds"].median().reindex(keys).to_numpy(np.float64)
    return frame


def _sorted(frame: pd.DataFrame) -> list[str]:
    scores = dict(zip(frame.index, frame[list(SCORES)].to_numpy(np.float64)))
    unsure = dict(zip(frame.index, frame[f"{SCORES[0]}_low"].isna()))

    def place(key: str) -> tuple[float | str, ...]:
        return unsure[key], *(math.inf if math.isnan(score) else -score for score in scores[key]), key

    return sorted(scores, key=place)


def _design_attrs(design: Design, gap: Floats) -> dict[str, Any]:
    varying = {int(design.level[rows[0]]) for rows in varying_levels(gap, design)}
    averaged = {int(design.level[rows[0]]) for rows in noise_strata(gap, design)}
    return {
        "recipes": design.recipes,
        "configurations": len(np.unique(np.stack([design.recipe, design.level]), axis=1).T),
        "seeds": int(design.replicate.max(initial=-1)) + 1,
        "axes": list(design.axes),
        "noises": list(design.noises),
        "constant_gap": [noise for level, noise in enumerate(design.noises) if level not in varying],
        "few_recipes": [design.noises[level] for level in sorted(varying - averaged)],
        "cells": {axis: vars(counts) for axis, counts in CellPairs.of(design, gap).counts.items()},
    }


def _as_dict(ceiling: Ceiling) -> dict[str, float | int]:
    return {
        "split_half": ceiling.split_half.point,
        "reliability": ceiling.reliability.point,
        "ceiling": ceiling.ceiling.point,
        "low": ceiling.ceiling.low,
        "high": ceiling.ceiling.high,
        "n": ceiling.ceiling.n,
    }
