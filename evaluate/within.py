"""A part of a zoo: the runs in which some hyper-parameters have given values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gapbench.datasets.errors import InputError, unknown

if TYPE_CHECKING:
    from gapbench.evaluate.table import Table

_REPLICATES = ("label_noise", "seed", "data_seed")


def within(table: Table, conditions: Sequence[str]) -> Table:
    """The table of the runs that meet every condition, such as "label_noise=0.5" or "architecture=cnn".

    A condition names an axis of the zoo, the label noise or a seed; two conditions on one axis are two values of which
    either will do. What no longer varies is no axis of the part.
    Raises: InputError where a condition has no "=", or its axis or value is not in the zoo.
    """
    wanted: dict[str, list[Any]] = {}
    for condition in conditions:
        axis, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"{condition!r} is no condition: write AXIS=VALUE, such as label_noise=0")
        names = [*table.axes, *(name for name in _REPLICATES if name in table.runs)]
        if axis not in names:
            raise unknown("axis", axis, names)
        wanted.setdefault(axis, []).append(_found(table.runs[axis], axis, value))
    kept = np.ones(len(table.runs), bool)
    for axis, values in wanted.items():
        kept &= table.runs[axis].isin(values).to_numpy()
    if not kept.any():
        raise InputError(f"no run has {' and '.join(conditions)}: the grid lacks this combination")
    runs = table.runs[kept]
    return dataclasses.replace(
        table,
        runs=runs,
        values=table.values[kept],
        readings=table.readings[table.readings["run"].isin(runs.index)],
        axes=tuple(name for name in table.axes if runs[name].nunique(dropna=False) > 1),
        test_errors=None if table.test_errors is None else table.test_errors[kept],
    )


def _found(column: pd.Series[Any], axis: str, text: str) -> Any:
    """The value of the axis that is written so."""
    values = list(column.drop_duplicates())
    for value in values:
        if str(value) == text or _equal(value, text):
            return value
    shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values, key=str))
    raise InputError(f"no run has {axis}={text}; its values are: {shown}")


def _equal(value: Any, text: str) -> bool:
    if isinstance(value, bool | np.bool_ | str):
        return False
    try:
        return bool(float(value) == float(text))
    except (TypeError, ValueError):
        return False
