"""The user's own table: a CSV or Parquet file with a column of labels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from gapbench.datasets.errors import InputError, unknown
from gapbench.datasets.files import locate_own, stamp
from gapbench.datasets.sampling import partition
from gapbench.datasets.seeds import generator
from gapbench.datasets.spec import DataSpec, Split

LABEL_COLUMN = "label"


def table(spec: DataSpec, data_dir: Path | None) -> tuple[Split, Split]:
    """The rows of the CSV or Parquet file ``spec.path``, (n, columns), split by the seed into two samples.

    A relative path is one in ``data_dir`` where that is given, else in the working directory. The labels are in the
    column ``spec.label_column``, by default "label": whole numbers or texts, numbered in their order. All other columns
    are numbers, standardised by the mean and the standard deviation of the training sample; one that is constant there
    becomes 0.

    Raises: InputError where the path is missing, the file is damaged, a column is no number or has a value missing.
    """
    path = locate_own(spec, data_dir, "a CSV or Parquet file")
    features, labels, classes = _read(*stamp(path), spec.label_column or LABEL_COLUMN)
    stream = generator(spec.seed, spec.name, "split")
    train, test = partition(spec.name, len(labels), spec.train_size, spec.test_size, stream)
    sample = features[train.numpy()]
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    # Equal numbers have a mean that rounding moves away from them.
    constant = (sample == sample[0]).all(axis=0)

    def split(rows: torch.Tensor) -> Split:
        scaled = numpy.where(constant, 0.0, (features[rows.numpy()] - mean) / numpy.where(constant, 1.0, std))
        return Split(torch.from_numpy(scaled.astype(numpy.float32)), torch.from_numpy(labels[rows.numpy()]), classes)

    return split(train), split(test)


@lru_cache(maxsize=4)
def _read(
    path: Path, size: int, changed_ns: int, label_column: str
) -> tuple[NDArray[numpy.float64], NDArray[numpy.int64], int]:
    frame = _frame(path)
    if label_column not in frame.columns:
        raise InputError(f"{path}: {unknown('column', label_column, map(str, frame.columns))} (see label_column)")
    if not len(frame) or len(frame.columns) < 2:
        raise InputError(f"{path} has {len(frame):,} rows and {len(frame.columns)} columns: there is nothing to learn")
    labels = frame[label_column]
    if labels.isna().any():
        raise InputError(f"{path}, row {_first(labels.isna()):,}: column {label_column!r} has no label")
    if labels.dtype.kind == "f":
        raise InputError(
            f"{path}: the labels in column {label_column!r} are numbers with a fraction (say, {labels.iloc[0]}); "
            "labels are whole numbers or texts"
        )
    names = sorted(labels.unique())
    if len(names) < 2:
        raise InputError(f"{path}: every label in column {label_column!r} is {names[0]!r}; two or more are needed")
    columns = [_numbers(path, frame[name]) for name in frame.columns if name != label_column]
    numbers = labels.map({name: number for number, name in enumerate(names)}).to_numpy(dtype=numpy.int64)
    features = numpy.stack(columns, axis=1)
    features.flags.writeable = numbers.flags.writeable = False
    return features, numbers, len(names)


def _frame(path: Path) -> Any:
    import pandas

    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path} is neither .csv nor .parquet: give the table in one of these formats")
    try:
        return pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:]} ({error}): it is truncated or damaged") from error


def _numbers(path: Path, column: Any) -> NDArray[numpy.float64]:
    if column.dtype.kind not in "biuf":
        raise InputError(f"{path}: column {column.name!r} holds {column.iloc[0]!r}, no number: encode it, or delete it")
    values: NDArray[numpy.float64] = column.to_numpy(dtype=numpy.float64)
    strange = ~numpy.isfinite(values)
    if strange.any():
        raise InputError(
            f"{path}, row {_first(strange):,}: column {column.name!r} has {values[strange][0]} ({int(strange.sum()):,} "
            "such values): fill them in, or delete their rows"
        )
    return values


def _first(marked: Any) -> int:
    """The row of the first mark, counted from 1, the heading not among them."""
    return int(numpy.asarray(marked).argmax()) + 1
