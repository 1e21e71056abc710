"""Which measures follow a phenomenon: their rank correlation with its curve, along its sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas

from gapbench.evaluate.phenomena.bench import MEASURE
from gapbench.evaluate.phenomena.intervals import spearman_interval
from gapbench.evaluate.phenomena.phenomenon import Follow

COLUMNS = ("curve", "along", "measure", "correlation", "low", "high", "groups")


def chosen(table: pandas.DataFrame, where: Mapping[str, Any]) -> pandas.DataFrame:
    """The rows whose columns have these values."""
    kept = pandas.Series(True, index=table.index)
    for column, value in where.items():
        kept &= table[column] == value
    return table[kept]


def following(table: pandas.DataFrame, follows: Iterable[Follow]) -> pandas.DataFrame:
    """Spearman's rho between each measure that was read and each curve, inside every group, the largest |rho| first.

    One row a curve and measure that is defined in two groups or more: ``correlation`` the mean over groups, its 95 %
    interval, and how many ``groups`` entered.
    """
    found = []
    for follow in follows:
        rows = chosen(table, follow.where)
        for column in rows.columns:
            if not str(column).startswith(MEASURE):
                continue
            interval = spearman_interval(rows, str(column), follow.curve, follow.unit)
            if interval.n >= 2:
                name = str(column).removeprefix(MEASURE)
                values = (interval.point, interval.low, interval.high, interval.n)
                found.append((follow.curve, follow.along, name, *values))
    frame = pandas.DataFrame(found, columns=list(COLUMNS))
    order = frame.assign(size=-frame["correlation"].abs()).sort_values(["curve", "along", "size"]).index
    return frame.loc[order].reset_index(drop=True)
