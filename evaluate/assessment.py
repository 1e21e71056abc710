"""Every further statistic of a zoo's measures, beside the leaderboard's scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gapbench.evaluate.declared import kind
from gapbench.evaluate.statistics.adjusted import mixed_model, partial_correlation
from gapbench.evaluate.statistics.affine_oracle import affine_oracles
from gapbench.evaluate.statistics.bounds import bound_report
from gapbench.evaluate.statistics.ceiling import between_seeds
from gapbench.evaluate.statistics.completeness import completeness
from gapbench.evaluate.statistics.conditional_information import conditional_mutual_information, pgdl_score
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.increment import r2_increment
from gapbench.evaluate.statistics.information_null import information_replicates
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.multiplicity import benjamini_hochberg, holm
from gapbench.evaluate.statistics.pairs import Floats, settled
from gapbench.evaluate.statistics.power import smallest_detectable
from gapbench.evaluate.statistics.rank import noise_strata, within_noise_replicates
from gapbench.evaluate.statistics.resampling import null_band, permuted
from gapbench.evaluate.statistics.same_ranking import same_rankings
from gapbench.evaluate.statistics.selection import selection_regret
from gapbench.evaluate.statistics.sign_error import sign_errors
from gapbench.evaluate.statistics.spearman import spearman
from gapbench.evaluate.targets import ERROR_GAP, converged

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

MOST_RUNS = 4000
"""Above as many runs the null band of the conditional information, whose cost grows with their square, is left out."""

_ROUNDING = 9
_INFORMATION = "conditional_mutual_information"
_AFFINE = ("affine_oracle", "affine_oracle_constant", "affine_oracle_in_sample")
_TASK = ("dataset", "path", "train_size", "pixels", "data_seed", "label_noise")
"""What two runs must have in common for a choice between them to be one of networks, not of data."""


def assessment(
    table: Table,
    *,
    target: str = "error_gap",
    permutations: int = 200,
    seed: int = 0,
    mixed: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Scores that the leaderboard does not rank by; index: the measures' keys, in the table's order.

    Runs that did not converge are left out; every measure is scored over the runs that have it, times its sign.
    ``progress``: called with how many steps of how many are done: one a measure, and one for the null band.

    Columns, each S with S_low and S_high (95 %) where it has them: spearman; conditional_mutual_information with
    _null_low, _null_high, _p (permutation, one-sided; NaN above `MOST_RUNS` runs) and their adjustments _holm and _bh
    across the measures that are ranked; pgdl_score;
    sign_error, sign_error_90, sign_error_worst with sign_error_environments (of the error gap alone, whose sampling
    error is known); partial_correlation; mixed_model (left out with ``mixed=False``); r2_increment;
    affine_oracle (held-out worst rmse), affine_oracle_constant, affine_oracle_in_sample; selection_regret,
    better_than_random; and for bounds, of the error gap whatever the target, bound_held, bound_below_one, bound_ratio.
    NaN where undefined.

    Raises: InputError as `leaderboard` does.

    ``attrs``: completeness (a sentence), complete, balanced, values (of each axis: how many runs), smallest_detectable
    (the within-noise tau found with 80 % power), between_seeds (the within-noise tau between two seeds of the same
    configurations), target, permutations, seed.
    """
    runs, exact = converged(table, target)
    gap = settled_gap(exact)
    design = Design.of(runs, table.axes)
    signed = {
        key: entry.sign * table.values[key].reindex(runs.index).to_numpy(np.float64)
        for key, entry in table.measures.items()
    }
    task = pd.factorize(pd.MultiIndex.from_frame(runs[[name for name in _TASK if name in runs]].astype(str)))[0]
    covers: dict[bytes, list[str]] = {}
    for key, values in signed.items():
        covers.setdefault(np.isfinite(values).tobytes(), []).append(key)
    steps = itertools.count(1)

    def step() -> None:
        if progress is not None:
            progress(next(steps), len(signed) + 1)

    rows = {}
    for key, values in signed.items():
        rng = np.random.default_rng([seed, 5])
        row: dict[str, float] = {}
        _add(row, "spearman", spearman(values, gap, design))
        _add(row, _INFORMATION, conditional_mutual_information(values, gap, design, rng=rng).minimum)
        _add(row, "pgdl_score", pgdl_score(values, gap, design))
        if "test_size" in runs.columns and target == ERROR_GAP:
            errors = sign_errors(values, gap, design, runs["test_size"].to_numpy(np.float64))
            _add(row, "sign_error", errors.mean)
            _add(row, "sign_error_90", errors.percentile_90)
            _add(row, "sign_error_worst", errors.maximum)
            row["sign_error_environments"] = errors.environments
        _add(row, "partial_correlation", partial_correlation(values, gap, design))
        if mixed:
            _add(row, "mixed_model", mixed_model(values, gap, design))
        _add(row, "r2_increment", r2_increment(values, gap, design, rng))
        if {"train_error", "test_error"} <= set(runs.columns):
            train, test = (runs[name].to_numpy(np.float64) for name in ("train_error", "test_error"))
            regret = selection_regret(values, train, test, design, task=task, rng=rng)
            _add(row, "selection_regret", regret.regret)
            _add(row, "better_than_random", regret.better_than_random)
        entry = table.measures[key]
        if getattr(entry, "bound", False) and ERROR_GAP in runs.columns:
            report = bound_report(entry.sign * values, runs[ERROR_GAP].to_numpy(np.float64), design)
            _add(row, "bound_held", report.held)
            _add(row, "bound_below_one", report.below_one)
            _add(row, "bound_ratio", report.ratio)
        rows[key] = row
        step()
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "measure"
    rng = np.random.default_rng([seed, 6])
    groups = list(covers.values())
    frame = frame.join(_affine_oracles(signed, groups, gap, design))
    frame = frame.join(_information_null(frame, signed, gap, design, permutations, rng))
    kinds = [kind(entry) for entry in table.measures.values()]
    repeated = same_rankings(np.stack(list(signed.values()), axis=1), list(signed), kinds) if signed else {}
    tests = [one == "measure" and key not in repeated for key, one in zip(signed, kinds, strict=True)]
    p = frame[f"{_INFORMATION}_p"].where(np.array(tests, dtype=bool)).to_numpy(np.float64)
    frame[f"{_INFORMATION}_holm"], frame[f"{_INFORMATION}_bh"] = holm(p), benjamini_hochberg(p)
    step()
    whole = completeness(design)
    frame.attrs = {
        "target": target,
        "permutations": permutations,
        "seed": seed,
        "completeness": whole.sentence(),
        "complete": whole.complete,
        "balanced": whole.balanced,
        "values": {name: list(counts) for name, counts in whole.values.items()},
        "between_seeds": between_seeds(gap, design).point,
        "smallest_detectable": _detectable(gap, design, np.random.default_rng([seed, 7])),
    }
    return frame


def adjusted_p(frame: pd.DataFrame, scores: tuple[str, ...]) -> pd.DataFrame:
    """S_holm and S_bh for each score's S_p of a leaderboard, across the measures that are ranked.

    What is no measure, or repeats the ranking of another, is no further test: it is not counted, and has NaN.
    """
    out = pd.DataFrame(index=frame.index)
    for score in scores:
        p = frame[f"{score}_p"].where((frame["kind"] == "measure") & (frame["same_as"] == "")).to_numpy(np.float64)
        out[f"{score}_holm"], out[f"{score}_bh"] = holm(p), benjamini_hochberg(p)
    return out


def settled_gap(gap: Floats) -> Floats:
    """The gap without the rounding error that would order equal ones, in its own units."""
    largest = float(np.nanmax(np.abs(gap), initial=0.0))
    return settled(gap, _ROUNDING) * largest if largest > 0 else gap


def _add(row: dict[str, float], name: str, interval: Interval) -> None:
    row |= {name: interval.point, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _affine_oracles(
    signed: dict[str, Floats], groups: Sequence[Sequence[str]], gap: Floats, design: Design
) -> pd.DataFrame:
    """`affine_oracle` of every measure, those of equal coverage at once."""
    parts = []
    for keys in groups:
        covered = np.isfinite(signed[keys[0]])
        measures = np.stack([signed[key][covered] for key in keys], axis=1)
        found = affine_oracles(measures, gap[covered], design.take(covered))
        parts.append(pd.DataFrame(found.T, index=list(keys), columns=list(_AFFINE)))
    return pd.concat(parts) if parts else pd.DataFrame(columns=list(_AFFINE))


def _information_null(
    frame: pd.DataFrame,
    signed: dict[str, Floats],
    gap: Floats,
    design: Design,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The null band of the conditional information, which plug-in bias keeps off 0: gaps moved between recipes."""
    name = _INFORMATION
    gaps = permuted(gap, design, permutations, rng)
    null = np.empty((len(signed), 0))
    if len(gap) <= MOST_RUNS and signed:
        null = information_replicates(np.stack(list(signed.values()), axis=1), gaps, design)
    points = dict(zip(frame.index, frame[name].to_numpy(np.float64)))
    rows = {}
    for key, scores in zip(signed, null):
        band = null_band(float(points[key]), scores)
        rows[key] = {f"{name}_null_low": band.low, f"{name}_null_high": band.high, f"{name}_p": band.p}
    return pd.DataFrame.from_dict(rows, orient="index").reindex(frame.index)


def _detectable(gap: Floats, design: Design, rng: Any) -> float:
    strata = noise_strata(gap, design)
    if not strata:
        return math.nan
    # A measure without ties that differs between recipes: no seed tells it more than another.
    random = rng.standard_normal(design.recipes)[design.recipe] + 1e-6 * rng.standard_normal(len(gap))
    return smallest_detectable(within_noise_replicates(random[:, None], permuted(gap, design, 1000, rng), strata)[0])
