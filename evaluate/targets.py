"""The gap that measures are scored against: that of the runs that converged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapbench.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from gapbench.evaluate.statistics.pairs import Floats
    from gapbench.evaluate.table import Table

ERROR_GAP = "error_gap"
"""The target that is a difference of fractions, which bounds bound, and whose sampling error is known."""


def converged(table: Table, target: str) -> tuple[pd.DataFrame, Floats]:
    """The rows of the runs that converged, and their targets, (runs,).

    Raises: InputError where the target is no column of the runs, no run converged, or a target is not finite.
    """
    runs = table.runs
    if target not in runs.columns:
        raise unknown("target", target, [str(name) for name in runs.columns if str(name).endswith("gap")])
    kept = runs[runs["converged"].to_numpy(bool)] if "converged" in runs.columns else runs
    if len(runs) and not len(kept):
        raise InputError(
            f"none of the {len(runs)} runs converged, and only those are ranked: train longer (max_epochs under [run])"
        )
    gap = kept[target].to_numpy(np.float64)
    if not np.isfinite(gap).all():
        worst = np.flatnonzero(~np.isfinite(gap))[0]
        raise InputError(
            f"{target} of run {kept.index[worst]} is {gap[worst]}: every run that converged needs a finite one"
        )
    return kept, gap
