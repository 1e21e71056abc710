"""Sign errors by environment: how often a measure orders two configurations otherwise than the gap does, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gapbench.evaluate.assessment import settled_gap
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.sign_error import (
    LEAST_SIZE,
    EnvironmentErrors,
    environment_errors,
    smallest_counted_difference,
)
from gapbench.evaluate.targets import ERROR_GAP
from gapbench.reports import marks, scores

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table


@dataclass(frozen=True)
class Environments:
    """``errors`` and their ``names`` (environments,); ``columns`` are the measures. ``pooled``: over the other axes.

    ``strict`` environments had pairs enough of ``candidates``, whose largest effective number was ``largest_size``.
    """

    errors: pd.DataFrame
    axis: list[str]
    names: list[str]
    axes: tuple[str, ...]
    pooled: bool
    strict: int
    candidates: int
    largest_size: float
    counted_from: float


def environments(table: Table, keys: Sequence[str], target: str) -> Environments | None:
    """The sign errors of these measures over the converged runs; None where the zoo does not tell its test sizes, and
    for another target than the error gap, of which the sampling error is not known.

    Environments are single comparisons of configurations where at least one has pairs enough for some measure; else
    they are pooled over the other axes.
    """
    if target != ERROR_GAP:
        return None
    runs = table.runs[table.runs["converged"].astype(bool)]
    gap = runs[target].to_numpy(np.float64)
    if "test_size" not in runs or not len(runs) or not np.isfinite(gap).all():
        return None
    design = Design.of(runs, table.axes)
    signs = np.array([float(table.measures[key].sign) for key in keys])
    values = table.values.loc[runs.index, list(keys)].to_numpy(np.float64) * signs
    sizes = runs["test_size"].to_numpy(np.float64)
    found = strict = environment_errors(values, settled_gap(gap), design, sizes)
    kept = ~np.isnan(strict.errors).all(axis=1)
    pooled = not kept.any()
    if pooled:
        found = environment_errors(values, settled_gap(gap), design, sizes, pooled=True)
        kept = ~np.isnan(found.errors).all(axis=1)
    rows = np.flatnonzero(kept)
    return Environments(
        errors=pd.DataFrame(found.errors[rows], columns=list(keys)),
        axis=[design.axes[found.axis[row]] for row in rows],
        names=[_name(found, row, runs, design.axes, pooled) for row in rows],
        axes=design.axes,
        pooled=pooled,
        strict=0 if pooled else len(rows),
        candidates=len(strict.axis),
        largest_size=float(strict.sizes.max(initial=0.0)),
        counted_from=smallest_counted_difference(float(np.median(sizes))),
    )


def _name(found: EnvironmentErrors, row: np.intp, runs: pd.DataFrame, axes: Sequence[str], pooled: bool) -> str:
    first, second = runs.iloc[found.first[row]], runs.iloc[found.second[row]]
    axis = axes[found.axis[row]]
    fixed = [] if pooled else [f"{name} {shown(first[name])}" for name in axes if name != axis]
    fixed.append(f"label noise {shown(first['label_noise'])}")
    return f"{axis} {shown(first[axis])} → {shown(second[axis])} at {', '.join(fixed)}"


def shown(value: Any) -> str:
    """The value of an axis, as short as it can be told."""
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def worst(found: Environments | None, key: str, most: int = 3) -> list[tuple[str, str]]:
    """The environments in which a measure errs most, with the error, worst first."""
    if found is None or key not in found.errors:
        return []
    errors = found.errors[key].to_numpy()
    order = np.argsort(np.where(np.isnan(errors), np.inf, -errors), kind="stable")[
        : min(most, (~np.isnan(errors)).sum())
    ]
    return [(found.names[at], scores.decimal(float(errors[at]))) for at in order]


def rows(found: Environments, assessed: pd.DataFrame | None, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a measure, best mean first: its distribution over all environments, and over those of each axis."""
    axis = np.array(found.axis, dtype=object)
    out = []
    for row in scores.rows(frame):
        errors = found.errors[row["key"]].to_numpy() if row["key"] in found.errors else np.zeros(0)
        known = errors[~np.isnan(errors)]
        if not len(known):
            continue
        by_axis = {name: errors[(axis == name) & ~np.isnan(errors)] for name in found.axes}
        out.append(
            {
                **row,
                "mean": float(known.mean()),
                "p90": float(np.quantile(known, 0.9)),
                "worst": float(known.max()),
                "environments": len(known),
                "interval": _interval(assessed, row["key"]) if not found.pooled else "",
                "strip": marks.error_strip(known, f"{row['key']}: sign errors in {len(known)} environments"),
                "axes": [
                    marks.error_strip(part, f"{name}: mean {scores.decimal(float(part.mean()))}") if len(part) else ""
                    for name, part in by_axis.items()
                ],
            }
        )
    return sorted(out, key=lambda item: (item["kind"] != scores.MEASURE, item["mean"]))


def _interval(assessed: pd.DataFrame | None, key: str) -> str:
    if assessed is None or key not in assessed.index or "sign_error" not in assessed:
        return ""
    row = scores.record(assessed, key)
    low, high = float(row["sign_error_low"]), float(row["sign_error_high"])
    return f"[{scores.decimal(low)}, {scores.decimal(high)}]" if math.isfinite(low) else ""


def explanation(found: Environments) -> str:
    """What the environments of this zoo are, in sentences."""
    start = (
        f"A pair of runs counts where the gaps are {found.counted_from:.3f} or more apart, by its certainty "
        f"(Hoeffding), and an environment where its pairs are worth {LEAST_SIZE:g} equal ones. "
    )
    if not found.pooled:
        return (
            start + f"Of {found.candidates} comparisons of two configurations that differ in one axis, {found.strict} "
            "have pairs enough for some measure."
        )
    text = (
        start + f"None of the {found.candidates} comparisons of two configurations that differ in one axis has pairs "
        f"enough (the largest is worth {found.largest_size:.1f}: few seeds, or gaps too close)"
    )
    if len(found.errors):
        return (
            f"{text}, so pairs are pooled over the other axes: an environment here is two values of one axis at one "
            f"label noise ({len(found.errors)} of them), which is milder than the worst case of the published test."
        )
    return f"{text}, and pooling over the other axes does not help: this zoo cannot say."


def of_axes(found: Environments) -> Mapping[str, int]:
    """How many environments each axis has."""
    return {name: found.axis.count(name) for name in found.axes}
