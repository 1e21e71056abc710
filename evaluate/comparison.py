"""Two zoos, or two tables, beside each other: which scores moved, and whether beyond their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from gapbench.datasets.errors import InputError
from gapbench.evaluate.external import External
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import PSI, CellPairs, granulated_estimates
from gapbench.evaluate.statistics.interval import LEVEL, Interval
from gapbench.evaluate.statistics.pairs import Floats, settled
from gapbench.evaluate.statistics.randomisation import auc_estimates
from gapbench.evaluate.statistics.rank import noise_strata, tau_estimates
from gapbench.evaluate.statistics.resampling import Estimate
from gapbench.evaluate.statistics.spearman import spearman_estimates
from gapbench.evaluate.targets import converged

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

_ROUNDING = 9

Group = Hashable


@dataclass(frozen=True)
class Scored:
    """``estimates`` by group and measure, then by score; ``recipes``: by group, the recipe of each run."""

    estimates: Mapping[tuple[Group, str], Mapping[str, Estimate]]
    recipes: Mapping[Group, Mapping[Hashable, int]]


def compare(first: Scored, second: Scored) -> pd.DataFrame:
    """What moved from the first to the second, in the measures that both have.

    Columns: group, measure, score; first, second (the scores), change = second − first with change_low and change_high
    (95 %), beyond (whether the interval of the change leaves out 0), n_first, n_second, paired (whether both have runs
    of the same recipes). Sorted: beyond first, then by the size of the change. ``attrs["notes"]``: what has no partner.

    The change is paired: its variance over recipes is Σ (e₂ − e₁)², the recipes' contributions to the two scores
    subtracted where the two share runs, so that equal scores of equal runs have no uncertainty between them; recipes
    of one side only count with their own. Bounds: t on the number of recipes − 1 degrees of freedom; where no run is in
    both, those of the two scores combined.
    """
    rows = []
    for key in first.estimates:
        if key not in second.estimates:
            continue
        group, measure = key
        labels = _labels(first.recipes[group], second.recipes[group])
        for score, one in first.estimates[key].items():
            other = second.estimates[key].get(score)
            if other is None:
                continue
            found = change(one, other, labels)
            rows.append(
                {
                    "group": group,
                    "measure": measure,
                    "score": score,
                    "first": one.point,
                    "second": other.point,
                    "change": found.point,
                    "change_low": found.low,
                    "change_high": found.high,
                    "beyond": bool(found.low > 0 or found.high < 0),
                    "n_first": one.n,
                    "n_second": other.n,
                    "paired": bool((labels < len(one.influence)).any()),
                }
            )
    if not rows:
        raise InputError("the two have no measure in common")
    frame = pd.DataFrame(rows)
    order = frame.assign(size=frame["change"].abs()).sort_values(["beyond", "size"], ascending=False, kind="stable")
    frame = frame.loc[order.index].reset_index(drop=True)
    notes = [
        f"only in the {name}: {', '.join(sorted({str(measure) for _, measure in missing}))}"
        for name, missing in (
            ("first", set(first.estimates) - set(second.estimates)),
            ("second", set(second.estimates) - set(first.estimates)),
        )
        if missing
    ]
    frame.attrs["notes"] = notes
    return frame


def change(first: Estimate, second: Estimate, labels: np.ndarray) -> Interval:
    """second − first; ``labels`` (recipes of the second,) number the recipes of the first that they share runs with,
    and go on from there for the others.
    """
    n = min(first.n, second.n)
    point = second.point - first.point
    point = 0.0 if abs(point) <= 1e-12 else point
    size = max(len(first.influence), int(labels.max(initial=-1)) + 1)
    difference = np.zeros(size)
    np.add.at(difference, labels, _scaled(second))
    difference[: len(first.influence)] -= _scaled(first)
    # What rounding leaves between equal scores is no uncertainty.
    error = float(np.sqrt((difference**2).sum()))
    error = 0.0 if error < 1e-12 else error
    shared = bool((labels < len(first.influence)).any())
    if not shared or (error == 0.0 and point != 0.0):
        return _apart(first.interval(), second.interval(), point, n)
    entered = int((difference != 0).sum()) or max(first.recipes, second.recipes)
    if math.isnan(point) or math.isnan(error) or entered < 3:
        return Interval(point, math.nan, math.nan, n)
    half = float(stdtrit(entered - 1, (1 + LEVEL) / 2)) * error
    return Interval(point, point - half, point + half, n)


def _apart(first: Interval, second: Interval, point: float, n: int) -> Interval:
    """The difference of two independent scores, from their own bounds, which keeps its coverage near ±1.

    Source: Zou & Donner 2008 (MOVER); for shares Newcombe 1998.
    """
    low = point - math.hypot(second.point - second.low, first.high - first.point)
    return Interval(point, low, point + math.hypot(second.high - second.point, first.point - first.low), n)


def _scaled(estimate: Estimate) -> Floats:
    """The recipes' contributions, scaled to the estimate's own standard error."""
    norm = math.sqrt(float(estimate.influence @ estimate.influence))
    if math.isnan(estimate.variance):
        return np.full(len(estimate.influence), np.nan)
    return estimate.influence * (math.sqrt(estimate.variance) / norm) if norm > 0 else estimate.influence


def _labels(first: Mapping[Hashable, int], second: Mapping[Hashable, int]) -> np.ndarray:
    own = max(first.values(), default=-1) + 1
    labels = own + np.arange(max(second.values(), default=-1) + 1)
    for run, recipe in second.items():
        if run in first:
            labels[recipe] = first[run]
    return labels


def scored_zoo(table: Table, target: str) -> Scored:
    """The leaderboard's scores of a zoo's table; a run is known by its id.

    Raises: InputError as `leaderboard` does.
    """
    runs, gap = converged(table, target)
    gap = settled(gap, _ROUNDING)
    design = Design.of(runs, table.axes)
    found: dict[tuple[Group, str], Mapping[str, Estimate]] = {}
    for key, entry in table.measures.items():
        values = entry.sign * table.values[key].reindex(runs.index).to_numpy(np.float64)
        covered = np.isfinite(values)
        x, y, kept = values[covered][:, None], gap[covered], design.take(covered)
        everything = [np.arange(len(y))]
        found[None, key] = {
            "within_noise_tau": tau_estimates(x, y, kept, noise_strata(y, kept), "b")[0],
            "granulated_tau": granulated_estimates(x, y, CellPairs.of(kept, y))[0][PSI],
            "tau_b": tau_estimates(x, y, kept, everything, "b")[0],
            "randomisation_auc": auc_estimates(x, kept)[0],
        }
    return Scored(found, {None: dict(zip(runs.index, design.recipe.tolist()))})


def _label(value: object) -> str:
    """A value of an axis as text, the same for 1, 1.0 and "1"."""
    try:
        return f"{float(str(value)):.15g}"
    except ValueError:
        return str(value)


def scored_table(table: External, other: External) -> Scored:
    """The rank correlations of a table from elsewhere.

    A row is known by its axes and seed where they are named, else by its place where both tables have the same targets.
    """
    same = table.target.shape == other.target.shape and np.array_equal(table.target, other.target, equal_nan=True)
    found: dict[tuple[Group, str], Mapping[str, Estimate]] = {}
    recipes: dict[Group, Mapping[Hashable, int]] = {}
    for label, members in table.groups():
        design = table.design(members)
        group = label if isinstance(label, Hashable) else str(label)
        names = table.axes if table.seed is None else table.axes.assign(**{"": table.seed})
        rows: list[Hashable] = [tuple(map(_label, row)) for row in names.iloc[members].astype(object).to_numpy()]
        if table.axes.shape[1] == 0:
            rows = [int(row) if same else (id(table), int(row)) for row in members]
        recipes[group] = dict(zip(rows, design.recipe.tolist()))
        for name, column in table.measures.items():
            values, target = column[members], table.target[members]
            covered = np.isfinite(values) & np.isfinite(target)
            x, y, kept = values[covered][:, None], target[covered], design.take(covered)
            everything = [np.arange(len(y))]
            found[group, name] = {
                "kendall_tau_b": tau_estimates(x, y, kept, everything, "b")[0],
                "tau_a": tau_estimates(x, y, kept, everything, "a")[0],
                "spearman": spearman_estimates(x, y, kept)[0],
            }
    return Scored(found, recipes)
