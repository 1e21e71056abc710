"""Scores of a table from elsewhere, group by group: rank correlations with the target, and the line through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gapbench.evaluate.external import External
from gapbench.evaluate.statistics.conditional_information import conditional_mutual_information, pgdl_score
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.granulated import granulated_tau
from gapbench.evaluate.statistics.interval import Interval
from gapbench.evaluate.statistics.line import least_squares_line
from gapbench.evaluate.statistics.pairs import Floats
from gapbench.evaluate.statistics.rank import tau_a, tau_b
from gapbench.evaluate.statistics.spearman import spearman

LINE = ("a", "b", "r2", "rmse")
SCORES = ("kendall_tau_b", "tau_a", "spearman", *LINE)
"""The scores of every table, in the order in which they are shown."""

DESIGN_SCORES = ("granulated_tau", "conditional_mutual_information", "pgdl_score")
"""The scores of tables whose axes are named."""


def rescore(table: External) -> pd.DataFrame:
    """One row a group and measure, in the order of the table.

    Columns: group (None where the table is not divided), measure, n (models with a value of the measure and a target),
    and for each score S of `SCORES`: S, S_low, S_high (95 %), NaN where it is not defined. ``a`` and ``b`` are the
    coefficients of the least-squares line target = a + b · measure, ``r2`` and ``rmse`` = √(SSR / n) its fit. Where the
    axes are named, `DESIGN_SCORES` too. Intervals are over configurations (rows that are equal in every axis); without
    axes every row counts as one. ``attrs["notes"]``: what a reader should know, such as rows without a group.
    """
    rows = []
    for label, members in table.groups():
        design = table.design(members)
        target = table.target[members]
        for name, values in table.measures.items():
            found = scores(values[members], target, design, with_axes=table.axes.shape[1] > 0)
            n = int((np.isfinite(values[members]) & np.isfinite(target)).sum())
            rows.append({"group": label, "measure": name, "n": n, **_flat(found)})
    columns = ["group", "measure", "n", *(f"{name}{bound}" for name in SCORES for bound in ("", "_low", "_high"))]
    frame = pd.DataFrame(rows, columns=None if rows else columns)
    without = 0 if table.group is None else int(table.group.isna().sum())
    frame.attrs["notes"] = [*table.notes, *([f"{without} rows have no group and are left out"] if without else [])]
    frame["group"] = frame["group"].astype(object).where(frame["group"].notna(), None)
    return frame


def scores(measure: Floats, target: Floats, design: Design, *, with_axes: bool) -> Mapping[str, Interval]:
    """Every score of one measure, over the runs with a value of both."""
    line = least_squares_line(measure, target, design)
    found = {
        "kendall_tau_b": tau_b(measure, target, design),
        "tau_a": tau_a(measure, target, design),
        "spearman": spearman(measure, target, design),
        "a": line.intercept,
        "b": line.slope,
        "r2": line.r2,
        "rmse": line.rmse,
    }
    if with_axes:
        found["granulated_tau"] = granulated_tau(measure, target, design).mean
        found["conditional_mutual_information"] = conditional_mutual_information(measure, target, design).minimum
        found["pgdl_score"] = pgdl_score(measure, target, design)
    return found


def _flat(found: Mapping[str, Interval]) -> dict[str, Any]:
    return {
        f"{name}{bound}": value
        for name, interval in found.items()
        for bound, value in (("", interval.point), ("_low", interval.low), ("_high", interval.high))
    }
