"""Tables of models and measures from elsewhere: a row a model, a column a measure, and a target."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from gapbench.datasets.errors import InputError, unknown
from gapbench.evaluate.statistics.design import Design
from gapbench.evaluate.statistics.pairs import Floats

MISSING = ("", "-", "–", "—", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "-nan", "null", "NULL", "None", "none")
"""How a missing value is written in a CSV file."""


KINDS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
"""The endings of files that are tables."""


@dataclass(frozen=True)
class External:
    """A table from elsewhere, checked: ``target`` (rows,) and ``measures`` by name, floats with NaN where missing.

    ``group`` (rows,) are the labels by which it is divided, `None` where it is not; ``axes`` and ``seed`` are columns.
    ``notes``: what a reader should know of how it was read.
    """

    target: Floats
    measures: dict[str, Floats]
    axes: pd.DataFrame
    seed: pd.Series | None
    group: pd.Series | None
    notes: tuple[str, ...] = ()

    def groups(self) -> list[tuple[object, np.ndarray]]:
        """Each label, in the order in which they first appear, with its rows; one group without a label otherwise."""
        if self.group is None:
            return [(None, np.arange(len(self.target)))]
        numbers, labels = pd.factorize(self.group)
        return [(_plain(label), np.flatnonzero(numbers == number)) for number, label in enumerate(labels)]

    def design(self, rows: np.ndarray) -> Design:
        """The design of some of the rows; without axes every row is a configuration of its own."""
        if self.axes.shape[1] == 0:
            return Design.of(pd.DataFrame({"model": rows}), ["model"])
        # An axis of this name is one like any other here; `Design` gives the two names a meaning.
        names = {axis: f"{axis} (axis)" if axis in ("seed", "label_noise") else str(axis) for axis in self.axes}
        runs = self.axes.iloc[rows].rename(columns=names)
        runs.index = pd.Index([f"{row + 1}" for row in rows])
        if self.seed is not None:
            runs["seed"] = self.seed.iloc[rows].to_numpy()
        return replace(Design.of(runs, list(names.values())), axes=tuple(map(str, self.axes)))


def read_external(
    table: str | Path | pd.DataFrame,
    *,
    target: str,
    axes: Sequence[str] = (),
    seed: str | None = None,
    measures: Sequence[str] = (),
    group: str | None = None,
    drop_nonfinite: bool = False,
) -> External:
    """A table (CSV or Parquet file, or a frame), with its columns by name.

    ``measures``: by default every numeric column (not true or false) that is not the target, an axis, the group or the
    seed, numbers stored as text or as decimals included; named ones may be true or false, which are 1 and 0. A column
    of numbers and a few words is left out, with a note. Missing values stay missing: they take a model out of the
    measure's coverage. Values that are not finite are refused, or with ``drop_nonfinite`` taken for missing.

    Raises: InputError where a file cannot be read, a column does not exist, stands twice or is not numeric, or a value
    is infinite.
    """
    frame = table if isinstance(table, pd.DataFrame) else _read(Path(table), [*axes, seed, group])
    _refuse_repeated(frame.columns)
    names = {"target": target, "seed": seed, "group": group}
    found = {role: column_of(frame, name) for role, name in names.items() if name is not None}
    varied = [column_of(frame, axis) for axis in axes]
    taken = {*found.values(), *varied}
    free = [name for name in frame.columns if name not in taken]
    chosen = [column_of(frame, name) for name in measures] or [name for name in free if _is_numeric(frame[name])]
    if not chosen:
        raise InputError(f"no measure: none of the columns {', '.join(map(str, frame.columns))} is numeric and free")
    numbers = {name: _numbers(frame, name, drop_nonfinite) for name in dict.fromkeys([found["target"], *chosen])}
    return External(
        numbers[found["target"]],
        {name: numbers[name] for name in dict.fromkeys(chosen)},
        frame[varied],
        frame[found["seed"]] if seed is not None else None,
        frame[found["group"]] if group is not None else None,
        () if measures else tuple(_left_out(frame, [name for name in free if name not in chosen])),
    )


def is_table(table: object) -> bool:
    """Whether this is a frame, or the path of a table's file."""
    return isinstance(table, pd.DataFrame) or (isinstance(table, (str, Path)) and _kind(Path(table)) in KINDS)


def named(text: str | None) -> list[str]:
    """The names in "a,b,c"; a name with a comma stands in double quotes."""
    return [name for name in next(csv.reader([text or ""], skipinitialspace=True), []) if name]


def column_of(frame: pd.DataFrame, name: str) -> str:
    """The column of this name, or the only one that is equal to it but for spaces at its ends.

    Raises: InputError where there is none, with the closest.
    """
    if name in frame.columns:
        return name
    close = [column for column in frame.columns if str(column).strip() == name.strip()]
    if len(close) == 1:
        return str(close[0])
    raise unknown("column", name, map(str, frame.columns))


def _kind(path: Path) -> str:
    return "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower()


def _read(path: Path, labels: Iterable[str | None]) -> pd.DataFrame:
    kind = _kind(path)
    if kind not in KINDS:
        raise InputError(f"{path}: a table is a .csv, .tsv or .parquet file")
    try:
        if kind == ".parquet":
            frame = pd.read_parquet(path)
            return frame if frame.index.names == [None] else frame.reset_index()
        return _read_csv(path, "\t" if kind.startswith(".tsv") else ",", {name.strip() for name in labels if name})
    except (ValueError, OSError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
            raise
        raise InputError(f"{path} cannot be read as a table: {error}") from error


def _read_csv(path: Path, separator: str, labels: set[str]) -> pd.DataFrame:
    # pandas would name a second column of a name otherwise, and score it.
    written = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str, encoding="utf-8-sig").iloc[0].dropna()
    if len(written) == 1 and separator == "," and ";" in written.iloc[0]:
        return _read_csv(path, ";", labels)
    _refuse_repeated(pd.Index(written))
    # A label may be called "None" or "NA": in columns of labels only an empty field is missing.
    header = pd.read_csv(path, sep=separator, nrows=0, encoding="utf-8-sig").columns
    missing = {name: [""] if str(name).strip() in labels else list(MISSING) for name in header}
    frame = pd.read_csv(
        path,
        sep=separator,
        encoding="utf-8-sig",
        keep_default_na=False,
        na_values=missing,
        low_memory=False,
    )
    # What pandas calls a column without a name is the index of the frame that was written, no measure.
    return frame.iloc[:, 1:] if len(header) and str(header[0]) == "Unnamed: 0" else frame


def _refuse_repeated(names: pd.Index) -> None:
    repeated = names[names.duplicated()]
    if len(repeated):
        raise InputError(f"column {repeated[0]!r} stands twice: every column needs a name of its own")


def _is_numeric(column: pd.Series) -> bool:
    """Whether all values that there are are numbers, in whatever way they are stored; true and false are none."""
    number, present = _is_number(column), column.notna()
    stored = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return bool(stored or (present.any() and number[present].all()))


def _left_out(frame: pd.DataFrame, names: Iterable[str]) -> Iterator[str]:
    """A note for each column that is mostly, but not only, of numbers."""
    for name in names:
        number, present = _is_number(frame[name]), frame[name].notna()
        if number.sum() > present.sum() / 2:
            row = int(np.flatnonzero(present & ~number)[0])
            yield f"column {name!r} is left out: row {row + 1} holds {frame[name].iloc[row]!r}, which is no number"


def _is_number(column: pd.Series) -> pd.Series:
    """For each value whether it is a number, or a text or decimal that stands for one."""
    kinds = (str, int, float, Decimal, np.number)
    values = column.astype(object)
    likely = values.map(lambda value: isinstance(value, kinds) and not isinstance(value, bool))
    return pd.to_numeric(values.where(likely), errors="coerce").notna()


def _numbers(frame: pd.DataFrame, name: str, drop_nonfinite: bool) -> Floats:
    column = frame[name]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan).copy()
    text = np.isnan(values) & column.notna().to_numpy()
    if column.dtype == object and text.any():
        # A column of true, false and missing values is one of objects.
        whether = column.map({True: 1.0, False: 0.0, "True": 1.0, "False": 0.0, "true": 1.0, "false": 0.0})
        values = np.where(text, whether.to_numpy(np.float64), values)
        text = np.isnan(values) & column.notna().to_numpy()
    elif pd.api.types.is_float_dtype(column.dtype):
        text = np.zeros(len(values), bool)  # NaN in a nullable column of floats is a missing value
    if text.any():
        row = int(np.flatnonzero(text)[0])
        raise InputError(f"column {name!r} is not numeric: row {row + 1} holds {column.iloc[row]!r}")
    infinite = np.isinf(values)
    if infinite.any() and not drop_nonfinite:
        row = int(np.flatnonzero(infinite)[0])
        more = f" (and {int(infinite.sum()) - 1} more in this column)" if infinite.sum() > 1 else ""
        raise InputError(
            f"row {row + 1}, column {name!r} is {values[row]}{more}: a score needs finite values; mend it, or take "
            "such values for missing with --drop-nonfinite (rows are counted from 1 below the header)"
        )
    values[infinite] = np.nan
    return values


def _plain(label: object) -> object:
    """The label as Python's own number, truth value or text."""
    plain = label.item() if isinstance(label, np.generic) else label
    return plain if isinstance(plain, (str, int, float, bool)) else str(plain)
